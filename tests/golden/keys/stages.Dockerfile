FROM tools AS build
RUN make
FROM docs AS pages
FROM build AS tested
RUN --mount=from=pages,target=/pages --mount=type=cache,from=build,source=/out,target=/c make test
FROM scratch
COPY --from=build /out /
COPY --from=pages . /pages/
COPY --from=debian:12 /etc/passwd /etc/
COPY --link --from=tested /report /
