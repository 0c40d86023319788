# syntax=docker/dockerfile:1
# escape=\

ARG BASE=debian:12 \
    # which of them
    FLAVOUR

FROM --platform=$BUILDPLATFORM ${BASE}-slim AS Build
ARG FLAVOUR=plain
ENV PATH="/opt/bin:$PATH" LANG=C.UTF-8
WORKDIR src
COPY --chown=app:app --chmod=u=rwX,go=rX ["a file", "*.c", "./"]
RUN --mount=type=cache,target=/root/.cache \
    make \

    # the blank line above is worth a warning
    FLAVOUR="$FLAVOUR"
RUN <<-'SCRIPT' bash -e
	echo "not $EXPANDED"
	SCRIPT

FROM scratch
LABEL org.example.name="multi stage" org.example.empty=
LABEL legacy form of a label
COPY --from=build --link /src/out /
COPY <<EOF <<two.txt /etc/
Hello
EOF
World
two.txt
EXPOSE 80 443/udp
VOLUME ["/data"]
USER 1000:1000
HEALTHCHECK --interval=30s --retries=3 CMD ["/out", "--check"]
STOPSIGNAL SIGINT
ENTRYPOINT ["/out"]
CMD -- --help
