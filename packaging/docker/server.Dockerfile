# The server and its operators' command line. `cargo xtask dist` puts beside this what is copied, and
# adds the labels.
FROM scratch
COPY root/ /

# Root begins, since the folder that is mounted at /data mostly is root's; the server hands that over to
# this user, and gives root up for good, before it serves. `docker run --user` is another way.
ENV FLEETD_USER=fleet-server
ENV FLEETD_DATABASE=/data/fleet.db
VOLUME ["/data"]
EXPOSE 8080

HEALTHCHECK --interval=30s --timeout=20s --start-period=60s CMD ["fleets", "health"]
ENTRYPOINT ["fleets"]
CMD ["server"]
