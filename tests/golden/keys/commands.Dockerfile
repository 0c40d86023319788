FROM debian:12
ARG VERSION UNSET
ENV MODE=fast
RUN make
RUN ["make", "install"]
SHELL ["/bin/bash", "-e", "-c"]
USER builder:staff
WORKDIR /build
RUN <<END
make $VERSION
END
RUN <<END
#!/usr/bin/python3
print()
END
RUN cat <<A <<B > both
a
A
b
B
RUN --network=none --security=insecure true
RUN --mount=source=src,target=src --mount=source=run.sh,target=/run.sh,rw make
RUN --mount=type=cache,target=/root/.cache,id=pip,sharing=locked,mode=0700,uid=1,gid=2 \
    --mount=type=tmpfs,target=/tmp,size=64m \
    --mount=type=secret,id=token,env=TOKEN,required \
    --mount=type=secret,id=file,target=/etc/file,mode=0444 \
    --mount=type=ssh \
    make
LABEL last=yes
CMD ["make"]
