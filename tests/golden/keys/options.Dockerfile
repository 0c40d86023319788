FROM debian:12
COPY README.md /made/
COPY --link README.md /made/
WORKDIR /made
RUN make
