//! A server that root starts with `--user`, as the image has it started, in folders that somebody has
//! prepared.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use super::super::{SOON, Said, is_running, ours, terminate};
use crate::lab::{Host, Lab, wait_for};

/// Somebody who has nothing.
const USER: &str = "4242:4243";
const THEIRS: (u32, u32) = (4242, 4243);
const ROOTS: (u32, u32) = (0, 0);

fn owner(path: &Path) -> (u32, u32) {
    let found = fs::symlink_metadata(path).expect("a file");
    (found.uid(), found.gid())
}

fn command(host: &Host, folder: &Path) -> std::process::Command {
    let mut command = ours(host, "fleets");
    command.args(["server", "--user", USER, "--interface", "lo", "--database"]);
    command.arg(folder.join("fleet.db"));
    command
}

/// Starts a server on a folder, until it serves, and ends it.
#[track_caller]
fn serves(host: &Host, folder: &Path) {
    let pid = host.start("server", &mut command(host, folder));
    wait_for("the server to serve", SOON, || {
        assert!(is_running(pid), "it ended: {}", host.log("server"));
        host.log("server").contains("admin key").then_some(())
    });
    terminate(host, pid);
}

#[test]
#[ignore = "gives files away, as root: cargo xtask test images"]
fn a_folder_is_handed_over_and_nothing_that_it_leads_to() {
    let mut lab = Lab::new();
    let host = lab.host("desk", &[]);
    let base = host.path("base");
    let at = |name: &str| base.join(name);
    // Whoever the server becomes has to come by here.
    for folder in [base.parent().expect("the lab's folder"), &base] {
        fs::create_dir_all(folder).expect("a folder");
        fs::set_permissions(folder, fs::Permissions::from_mode(0o711)).expect("its owner");
    }

    // What is not there is made, for nobody else; and what is in the folder stays as it is found.
    serves(&host, &at("new/data"));
    assert_eq!([owner(&at("new")), owner(&at("new/data"))], [ROOTS, THEIRS]);
    assert_eq!(fs::metadata(at("new/data")).expect("a folder").mode() & 0o777, 0o700);
    assert_eq!(owner(&at("new/data/srv.key")), THEIRS);

    // Root has had it since, and somebody has planted what would have root do more.
    fs::rename(at("new/data"), at("data")).expect("a name");
    host.output("chown", &["-R", "0:0", at("data").to_str().expect("a plain path")]);
    fs::set_permissions(at("data"), fs::Permissions::from_mode(0o755)).expect("its owner");
    fs::write(at("shadow"), "").expect("a file");
    fs::create_dir(at("data/lost+found")).expect("a folder");
    fs::write(at("data/lost+found/x"), "").expect("a file");
    for name in ["data/x", "data/telemetry/x", "data/fleet.db.new"] {
        symlink(at("shadow"), at(name)).expect("a link");
    }
    serves(&host, &at("data"));
    for name in ["data", "data/fleet.db", "data/admin.key", "data/telemetry"] {
        assert_eq!(owner(&at(name)), THEIRS, "{name}");
    }
    assert_eq!(fs::metadata(at("data")).expect("a folder").mode() & 0o777, 0o750);
    for name in ["shadow", "data/x", "data/telemetry/x", "data/lost+found/x"] {
        assert_eq!(owner(&at(name)), ROOTS, "{name}");
    }

    // A second name of somebody's file stops it, before anybody else has it.
    fs::hard_link(at("shadow"), at("data/revoked.log.new")).expect("a name");
    let said = Said::of(&mut command(&host, &at("data"))).exits(1);
    said.explains(&["revoked.log.new", "has 2 names"]);
    assert_eq!(owner(&at("shadow")), ROOTS);
    fs::remove_file(at("data/revoked.log.new")).expect("a file");

    // A folder in it that is a link is none of it; the folder itself may be one.
    fs::rename(at("data/telemetry"), at("elsewhere")).expect("a name");
    host.output("chown", &["-R", "0:0", at("elsewhere").to_str().expect("a plain path")]);
    symlink(at("elsewhere"), at("data/telemetry")).expect("a link");
    symlink(at("data"), at("named")).expect("a link");
    let said = Said::of(&mut command(&host, &at("named"))).exits(1);
    said.explains(&["telemetry", "Permission denied"]);
    assert_eq!(owner(&at("elsewhere")), ROOTS);

    // Folders of the whole machine are nobody's.
    fs::create_dir_all(at("lib/dpkg")).expect("a folder");
    Said::of(&mut command(&host, &at("lib"))).exits(78).explains(&["such as dpkg"]);
    Said::of(&mut command(&host, Path::new("/"))).exits(78).explains(&["the whole system's"]);
    assert_eq!(owner(&at("lib")), ROOTS);
}
