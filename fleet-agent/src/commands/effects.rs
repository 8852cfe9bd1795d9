//! The effects of commands on the machine. A test has others.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::Chain;
use fleet_core::command::{Command, UnitName};
use fleet_core::limits::COMMAND_OUTPUT_BYTES_MAX;
use fleet_core::net::shutdown::Tasks;
use fleet_core::time::Clock;
use fleet_core::untrusted::Untrusted;
use fleet_core::wire::Outcome;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::desk::Job;
use super::outcome::{Performed, failed, of_program, result, with_output};
use crate::journal::CommandId;
use crate::log_tail::LogTail;
use crate::new_key::{Answer, Begun, LetGo, NewKeys};
use crate::queue::Queue;
use crate::sys::SysRoot;
use crate::sys::process::{self, Bounds, Ending, Keep, Output, Ran};
use crate::telemetry::Telemetry;

/// How long a program is given to end by itself after its time is over. The agent's own end waits
/// for it.
const GRACE: Duration = Duration::from_secs(5);
/// How long it may take to ask what a unit is.
const ASK: Duration = Duration::from_secs(10);
/// How long it may take to ask for a reboot.
const REBOOT: Duration = Duration::from_secs(60);

/// What can be done to the machine.
pub trait Effects: Send + Sync + 'static {
    /// Does it. What was begun ends when nobody waits for it any more.
    fn perform<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Performed>;
}

/// This machine, or the one under a folder that stands for it.
pub struct Machine {
    /// Where its programs are.
    pub root: SysRoot,
    /// What measures it.
    pub telemetry: Arc<Telemetry>,
    /// Where reports go.
    pub queue: Arc<Queue>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// What the agent logged.
    pub log: LogTail,
    /// Told when the agent shall begin anew.
    pub restart: Arc<Notify>,
    /// Keys that take the place of the device's own.
    pub new_keys: Arc<NewKeys>,
    /// When to stop.
    pub tasks: Tasks,
}

impl Effects for Machine {
    fn perform<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Performed> {
        let time = job.time;
        Box::pin(async move {
            match &job.command {
                Command::Restart => self.begin_anew(),
                Command::RestartService(service) => self.restart_service(service, time).await,
                Command::Reboot => self.reboot().await,
                Command::Collect => self.collect(),
                Command::Logs { unit: Some(unit), lines } => {
                    self.unit_log(unit, *lines, time).await
                }
                Command::Logs { unit: None, lines } => self.own_log(*lines),
                Command::RotateKey => self.rotate_key(job.id, time).await,
                Command::Exec(argv) => self.exec(argv, time).await,
            }
        })
    }
}

impl Machine {
    fn begin_anew(&self) -> Performed {
        self.restart.notify_one();
        Performed::Asked
    }

    /// Has the server take a new key, and the agent begin anew with it.
    async fn rotate_key(&self, id: CommandId, time: Duration) -> Performed {
        match self.new_keys.begin(id) {
            Ok(Begun::Offered) => {}
            Ok(Begun::Taken) => return self.begin_anew(),
            Ok(Begun::Used(fingerprint)) => {
                let detail = format!("the device's key is {fingerprint} now");
                return Performed::Over(result(Outcome::Succeeded, detail));
            }
            Err(error) => return failed(format!("cannot keep a new key: {error}")),
        }
        let answer = tokio::select! {
            answer = timeout(time, self.new_keys.answer()) => answer.ok(),
            () = self.tasks.stopping() => {
                return Performed::Interrupted(Output::new(0, Keep::First));
            }
        };
        match answer {
            Some(Answer::Taken) => self.begin_anew(),
            Some(Answer::Refused(why)) => {
                self.new_keys.let_go();
                failed(format!("the server does not take the new key: {why}"))
            }
            None => match self.new_keys.let_go() {
                LetGo::Gone => {
                    failed(format!("the server did not take the new key within {time:?}"))
                }
                LetGo::Unknown => Performed::Over(result(
                    Outcome::Unknown,
                    "the server takes the new key, and the disk did not keep that in time",
                )),
            },
        }
    }

    async fn restart_service(&self, service: &UnitName, time: Duration) -> Performed {
        if self.is_own_unit(service).await {
            // It would end the agent, which would then not know whether it had done it.
            return failed("that is this agent's own service; restart without a name restarts it");
        }
        let argv = ["systemctl", "restart", service.as_str()].map(str::to_owned);
        self.run(&argv, time, Keep::First).await
    }

    /// Whether the agent runs in this unit, whatever name it is called by.
    async fn is_own_unit(&self, unit: &UnitName) -> bool {
        let groups = self.root.text("proc/self/cgroup").unwrap_or_default();
        let groups = groups.lines().filter_map(|line| line.rsplit('/').next());
        let own: Vec<&str> = groups.filter(|name| name.ends_with(".service")).collect();
        if own.is_empty() || own.contains(&unit.as_str()) {
            return !own.is_empty();
        }
        let argv = ["systemctl", "show", "--property=Id", "--value", unit.as_str()];
        let asked = self.ran(&argv.map(str::to_owned), ASK, Keep::First).await;
        // Who cannot answer cannot restart it either, which is told then.
        asked.is_ok_and(|ran| own.contains(&String::from_utf8_lossy(&ran.output.bytes).trim()))
    }

    /// By the first program that does it.
    async fn reboot(&self) -> Performed {
        let mut problem = None;
        for argv in [&["systemctl", "reboot"][..], &["reboot"]] {
            let argv: Vec<String> = argv.iter().map(|&word| word.to_owned()).collect();
            if process::find(&self.root, &argv[0]).is_none() {
                continue;
            }
            match self.ran(&argv, REBOOT, Keep::First).await {
                Ok(ran) => match ran.ending {
                    Ending::Exited(status) if !status.success() => {
                        problem = Some(of_program(ran, REBOOT));
                    }
                    // It was asked for; or nobody knows what the program still waits for, and the
                    // machine's end may have begun.
                    Ending::Exited(_) | Ending::TimedOut | Ending::Stopped => {
                        return Performed::Asked;
                    }
                },
                Err(not_run) => problem = Some(not_run),
            }
        }
        problem.unwrap_or_else(|| failed("there is neither systemctl nor reboot on this device"))
    }

    fn collect(&self) -> Performed {
        match self.telemetry.report_now(&self.queue, self.clock.as_ref()) {
            Ok(0) => failed("there is nothing to report"),
            Ok(1) => Performed::Over(result(Outcome::Succeeded, "a report with 1 value")),
            Ok(values) => Performed::Over(result(
                Outcome::Succeeded,
                format!("a report with {values} values"),
            )),
            Err(error) => failed(Chain(&error).to_string()),
        }
    }

    async fn unit_log(&self, unit: &UnitName, lines: u32, time: Duration) -> Performed {
        let lines = lines.to_string();
        let flags = ["journalctl", "--no-pager", "-o", "short-iso", "-n", &lines, "-u"];
        let argv: Vec<String> =
            flags.into_iter().chain([unit.as_str()]).map(str::to_owned).collect();
        self.run(&argv, time, Keep::Last).await
    }

    fn own_log(&self, lines: u32) -> Performed {
        let lines = self.log.last(usize::try_from(lines).unwrap_or(usize::MAX));
        let mut output = Output::new(COMMAND_OUTPUT_BYTES_MAX, Keep::Last);
        output.push(lines.as_bytes());
        let count = lines.lines().count();
        let detail = format!("the last {count} lines of the agent's own log");
        Performed::Over(with_output(result(Outcome::Succeeded, detail), output))
    }

    async fn exec(&self, argv: &[String], time: Duration) -> Performed {
        self.run(argv, time, Keep::First).await
    }

    async fn run(&self, argv: &[String], time: Duration, keep: Keep) -> Performed {
        match self.ran(argv, time, keep).await {
            Ok(ran) => of_program(ran, time),
            Err(not_run) => not_run,
        }
    }

    /// Runs a program; or why it was not run.
    async fn ran(&self, argv: &[String], time: Duration, keep: Keep) -> Result<Ran, Performed> {
        let name = argv.first().map_or("", String::as_str);
        let Some(program) = process::find(&self.root, name) else {
            let name = Untrusted::from(name);
            return Err(failed(format!("there is no {name} on this device")));
        };
        let output_bytes_max = COMMAND_OUTPUT_BYTES_MAX;
        let bounds = Bounds { time, grace: GRACE, output_bytes_max, keep };
        let ran = process::run(&self.root, &program, argv, bounds, self.tasks.stopping());
        ran.await.map_err(|error| {
            let name = Untrusted::from(name);
            failed(format!("cannot run {name}: {error}"))
        })
    }
}
