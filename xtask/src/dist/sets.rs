//! What is installed together: the one list of packages, and of what is in them.

use std::path::Path;

use crate::cargo::Programs;

/// A package.
pub(super) struct Set {
    pub(super) package: &'static str,
    /// Its program, which manual pages and completions are named after.
    pub(super) program: &'static str,
    /// Where that is once it is built.
    pub(super) built: fn(&Programs) -> &Path,
    /// What it is, in a line, and in a few.
    pub(super) summary: &'static str,
    pub(super) description: &'static [&'static str],
    /// What it needs besides the libraries that its program is linked to.
    pub(super) depends: &'static [&'static str],
    /// Files of `packaging/`, and where they go.
    pub(super) files: &'static [(&'static str, &'static str)],
    /// The package that it brings along for others, and the folder for that.
    pub(super) carries: Option<(&'static str, &'static str)>,
    /// Whether dpkg runs scripts for it, which are in `packaging/debian/`.
    pub(super) has_scripts: bool,
}

/// All packages, each after those that it carries.
pub(super) const SETS: [Set; 3] = [
    Set {
        package: "fleetd",
        program: "fleetd",
        built: |programs: &Programs| &programs.fleetd,
        summary: "agent that makes a Linux device a member of a fleet",
        description: &[
            "FleetD manages fleets of Linux edge devices. This package has the agent,",
            "which runs on each device as a service of systemd, reports to the fleet's",
            "server, and does what that asks for where the device's owner allows it.",
        ],
        depends: &["systemd"],
        files: &[
            ("systemd/fleetd-agent.service", "usr/lib/systemd/system/fleetd-agent.service"),
            ("tmpfiles.d/fleetd.conf", "usr/lib/tmpfiles.d/fleetd.conf"),
            ("env", "usr/share/fleetd/env"),
        ],
        carries: None,
        has_scripts: true,
    },
    Set {
        package: "fleet-server",
        program: "fleets",
        built: |programs: &Programs| &programs.fleets,
        summary: "server and command line for fleets of Linux devices",
        description: &[
            "FleetD manages fleets of Linux edge devices. This package has the server,",
            "which runs as a service of systemd, and fleets, the command line of its",
            "operators.",
        ],
        depends: &["systemd"],
        files: &[
            ("systemd/fleet-server.service", "usr/lib/systemd/system/fleet-server.service"),
            ("sysusers.d/fleet-server.conf", "usr/lib/sysusers.d/fleet-server.conf"),
            ("tmpfiles.d/fleet-server.conf", "usr/lib/tmpfiles.d/fleet-server.conf"),
            ("env", "usr/share/fleet-server/env"),
        ],
        // Whoever runs a server installs agents from it.
        carries: Some(("fleetd", "usr/share/fleetd/packages")),
        has_scripts: true,
    },
    Set {
        package: "fleet-tui",
        program: "fleet-tui",
        built: |programs: &Programs| &programs.console,
        summary: "console for fleets of Linux devices",
        description: &[
            "FleetD manages fleets of Linux edge devices. This package has the console,",
            "in which operators watch and run a fleet from a terminal.",
        ],
        depends: &[],
        files: &[],
        carries: None,
        has_scripts: false,
    },
];
