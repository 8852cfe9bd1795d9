//! Programs that are really run, under a folder that stands for `/`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fleet_agent::sys::SysRoot;
use fleet_agent::sys::process::{self, Bounds, Ending, Keep, Output, Ran};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::within::{until, within};

const BOUNDS: Bounds = Bounds {
    time: Duration::from_secs(25),
    grace: Duration::from_millis(200),
    output_bytes_max: 64 * 1024,
    keep: Keep::First,
};

/// A machine with programs of its own.
pub(crate) struct Programs {
    pub(crate) folder: TempDir,
}

impl Programs {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("usr/bin")).unwrap();
        Self { folder }
    }

    pub(crate) fn root(&self) -> SysRoot {
        SysRoot::at(self.folder.path())
    }

    /// Adds a program: a script for the shell.
    pub(crate) fn add(&self, name: &str, script: &str) -> PathBuf {
        add(self.folder.path(), name, script)
    }

    async fn run(&self, argv: &[&str], bounds: Bounds) -> Ran {
        self.run_until(argv, bounds, std::future::pending()).await
    }

    async fn run_until(
        &self,
        argv: &[&str],
        bounds: Bounds,
        stop: impl Future<Output = ()>,
    ) -> Ran {
        let program = process::find(&self.root(), argv[0]).unwrap();
        let argv: Vec<String> = argv.iter().map(|&word| word.to_owned()).collect();
        let root = self.root();
        let ran = process::run(&root, &program, &argv, bounds, stop);
        within("a program's end", ran).await.unwrap()
    }
}

pub(crate) fn add(root: &Path, name: &str, script: &str) -> PathBuf {
    let path = root.join("usr/bin").join(name);
    // Renamed into place: a file that is being written cannot be run.
    let new = path.with_extension("new");
    fs::write(&new, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&new, &path).unwrap();
    path
}

/// Waits until a process that a script noted is gone.
pub(crate) async fn is_gone(note: &Path) {
    let text = fs::read_to_string(note).unwrap();
    let pid = Pid::from_raw(text.trim().parse().unwrap());
    // One that nobody waits for is a zombie in a container without an init, and as good as gone.
    let is_zombie = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
    };
    until("a process to be gone", || kill(pid, None) == Err(Errno::ESRCH) || is_zombie()).await;
}

#[tokio::test]
async fn what_a_program_writes_comes_in_its_order() {
    let programs = Programs::new();
    programs.add("speak", "echo one; echo two >&2; echo three; exit 3");
    let ran = programs.run(&["speak"], BOUNDS).await;
    let Ending::Exited(status) = ran.ending else { panic!("{ran:?}") };
    assert_eq!((status.code(), process::describe(status).as_str()), (Some(3), "ended with code 3"));
    assert_eq!(ran.output.bytes, b"one\ntwo\nthree\n");
    programs.add("die", "kill -9 $$");
    let Ending::Exited(status) = programs.run(&["die"], BOUNDS).await.ending else { panic!() };
    assert_eq!(process::describe(status), "was ended by signal 9");
}

#[tokio::test]
async fn a_program_knows_nothing_of_the_agent() {
    let programs = Programs::new();
    programs.add("look", "/usr/bin/env | /usr/bin/sort; pwd; /bin/cat");
    let ran = programs.run(&["look"], BOUNDS).await;
    let root = programs.folder.path().canonicalize().unwrap();
    let output = String::from_utf8(ran.output.bytes).unwrap();
    // What the shell itself adds.
    let own = ["_=", "OLDPWD=", "PWD=", "SHLVL="];
    let mut lines = output.lines().filter(|line| !own.iter().any(|own| line.starts_with(own)));
    for expected in ["HOME=/", "LANG=C.UTF-8"] {
        assert_eq!(lines.next(), Some(expected), "{output}");
    }
    let path = lines.next().unwrap();
    assert!(path.starts_with("PATH=") && path.contains("/usr/bin:"), "{path}");
    assert!(
        path[5..].split(':').all(|folder| folder.starts_with(root.to_str().unwrap())),
        "{path}"
    );
    assert_eq!(Path::new(lines.next().unwrap()).canonicalize().unwrap(), root);
    assert_eq!(lines.next(), None, "it has no input");
}

#[tokio::test]
async fn what_is_too_much_is_counted() {
    let programs = Programs::new();
    programs.add("much", "i=0; while [ $i -lt 3000 ]; do echo $((100000 + i)); i=$((i+1)); done");
    for (keep, begins, ends) in
        [(Keep::First, "100000\n", "\n100"), (Keep::Last, "2857\n", "102999\n")]
    {
        let bounds = Bounds { output_bytes_max: 1000, keep, ..BOUNDS };
        let ran = programs.run(&["much"], bounds).await;
        let output = String::from_utf8(ran.output.bytes).unwrap();
        assert_eq!((output.len(), ran.output.left_out_bytes), (1000, 20_000));
        let is_cut = output.starts_with(begins) && output.contains(ends);
        assert!(is_cut || keep == Keep::Last && output.ends_with(ends), "{output}");
    }
}

#[tokio::test]
async fn a_group_ends_with_its_time() {
    let programs = Programs::new();
    let script = "trap '' TERM; /bin/sh -c 'trap \"\" TERM; echo $$ > inner; while :; do /bin/sleep 0.1; done' & \
                  echo $$ > outer; echo begun; while :; do /bin/sleep 0.1; done";
    programs.add("stubborn", script);
    let bounds = Bounds { time: Duration::from_secs(3), ..BOUNDS };
    let began = Instant::now();
    let ran = programs.run(&["stubborn"], bounds).await;
    assert_eq!(ran.ending, Ending::TimedOut);
    assert!(began.elapsed() >= bounds.time + bounds.grace);
    assert_eq!(ran.output.bytes, b"begun\n");
    for note in ["outer", "inner"] {
        is_gone(&programs.folder.path().join(note)).await;
    }

    // One that listens may say goodbye.
    programs.add(
        "polite",
        "trap 'echo bye; exit 0' TERM; echo hello; while :; do /bin/sleep 0.05; done",
    );
    let bounds = Bounds { grace: Duration::from_secs(20), ..bounds };
    let ran = programs.run(&["polite"], bounds).await;
    // What its shell says of its own programs' end comes in between.
    let output = String::from_utf8(ran.output.bytes).unwrap();
    assert!(output.starts_with("hello\n") && output.ends_with("bye\n"), "{output}");
    assert_eq!(ran.ending, Ending::TimedOut);
}

#[tokio::test]
async fn nothing_of_it_outlives_a_stop() {
    let programs = Programs::new();
    programs.add("long", "/bin/sleep 1000 & echo $! > inner; echo $$ > outer; wait");
    let outer = programs.folder.path().join("outer");
    let stop =
        until("the program's begin", || fs::read(&outer).is_ok_and(|text| text.ends_with(b"\n")));
    let ran = programs.run_until(&["long"], BOUNDS, stop).await;
    assert_eq!(ran.ending, Ending::Stopped);
    is_gone(&outer).await;
    is_gone(&programs.folder.path().join("inner")).await;

    // Nor what is let go of, nor what a program leaves behind.
    fs::remove_file(&outer).unwrap();
    tokio::select! {
        _ = programs.run(&["long"], BOUNDS) => panic!("it ends"),
        () = until("its begin", || fs::read(&outer).is_ok_and(|text| text.ends_with(b"\n"))) => {}
    }
    is_gone(&outer).await;
    is_gone(&programs.folder.path().join("inner")).await;
    programs.add("leave", "/bin/sleep 1000 & echo $! > inner; echo left");
    let began = Instant::now();
    let ran = programs.run(&["leave"], BOUNDS).await;
    assert!(matches!(ran.ending, Ending::Exited(status) if status.success()));
    assert_eq!(ran.output.bytes, b"left\n");
    assert!(began.elapsed() < Duration::from_secs(20));
    is_gone(&programs.folder.path().join("inner")).await;
}

#[test]
fn t27_programs_are_looked_for_where_they_belong() {
    let programs = Programs::new();
    let tool = programs.add("tool", "");
    let root = programs.root();
    assert_eq!(process::find(&root, "tool"), Some(tool.clone()));
    assert_eq!(process::find(&root, "/usr/bin/tool"), Some(tool.clone()));
    fs::write(programs.folder.path().join("usr/bin/text"), "no program").unwrap();
    for name in [
        "systemctl",
        "",
        ".",
        "..",
        "text",
        "usr/bin/tool",
        "./tool",
        "/bin/../usr/bin/tool",
        "/usr/bin",
    ] {
        assert_eq!(process::find(&root, name), None, "{name}");
    }
    assert!(process::find(&SysRoot::real(), "sh").is_some_and(|sh| sh.is_absolute()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn arguments_arrive_byte_for_byte(args in proptest::collection::vec("[^\0]{0,12}|[ '\"$`\\\\*?;&|<>\n-]{0,8}", 0..6)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let argv: Vec<String> = [vec!["printf".to_owned(), "%s\\0".to_owned()], args.clone()].concat();
        let program = process::find(&SysRoot::real(), "printf").unwrap();
        let ran = runtime.block_on(async {
            process::run(&SysRoot::real(), &program, &argv, BOUNDS, std::future::pending()).await
        });
        let expected: Vec<u8> = match args.len() {
            0 => b"\0".to_vec(),
            _ => args.iter().flat_map(|arg| [arg.as_bytes(), b"\0"].concat()).collect(),
        };
        prop_assert_eq!(ran.unwrap().output.bytes, expected);
    }

    #[test]
    fn no_byte_of_an_output_is_lost_count_of(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 0..20),
        most in 0_usize..64,
    ) {
        let all = pieces.concat();
        for keep in [Keep::First, Keep::Last] {
            let mut output = Output::new(most, keep);
            for piece in &pieces {
                output.push(piece);
            }
            let kept = match keep {
                Keep::First => &all[..all.len().min(most)],
                Keep::Last => &all[all.len().saturating_sub(most)..],
            };
            prop_assert_eq!(&output.bytes, kept);
            prop_assert_eq!(output.left_out_bytes as usize + kept.len(), all.len());
        }
    }
}
