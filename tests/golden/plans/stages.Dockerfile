ARG BASE=golang:1.22
FROM debian:12@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa AS tools
RUN echo tools
FROM $BASE AS Build
ENV CGO_ENABLED=0
WORKDIR /src
COPY . .
RUN --mount=type=bind,from=tools,target=/tools \
    go build \
      -o /out
ONBUILD RUN echo built on
FROM alpine AS unused
RUN echo nobody needs this
FROM build AS test
COPY --from=busybox:1 /bin/busybox /
FROM docs
RUN <<EOT
echo here
EOT
COPY --from=docs / /docs
COPY --from=images /etc /
FROM scratch AS final
LABEL a=b
COPY --from=test /out /
COPY --from=4 /docs /docs
ENTRYPOINT ["/out"]
