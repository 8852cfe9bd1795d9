# The agent. `cargo xtask dist` puts beside this what is copied, and adds the labels.
FROM scratch
COPY root/ /

# The device's key, by which it is the same device tomorrow, and what its server said.
ENV FLEETD_DATA_DIR=/data
VOLUME ["/data"]
EXPOSE 6789

HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["fleetd", "health"]
ENTRYPOINT ["fleetd"]
CMD ["agent"]
