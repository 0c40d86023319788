FROM scratch
ARG VERSION
COPY . /app/
COPY --exclude=*.md --chmod=u=rwX,go= README.md src /only/
COPY --chown=1000:1000 --link run.sh /bin/$VERSION/
COPY --parents src/./**/*.h /headers/
COPY --from=docs page /usr/share/
COPY <<a <<"b" /notes/
version $VERSION
a
version $VERSION
b
WORKDIR /app
USER me
WORKDIR data
ADD --unpack=false run.sh .
ADD --checksum=sha256:0000000000000000000000000000000000000000000000000000000000000000 https://example.com/a/file.tgz /
ADD https://example.com/code.git#1111111111111111111111111111111111111111:sub /code
