//! What a panic does while the console runs: the terminal is given back, a report is written, two
//! lines say so, and the program ends, whichever thread or task it was.

use std::backtrace::Backtrace;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{PanicHookInfo, set_hook};
use std::path::{Path, PathBuf};
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fleet_core::VERSION;
use fleet_core::time::{Clock as _, SystemClock};
use fleet_core::untrusted::escaped;

use super::guard::give_back;

/// The report of the last panic; one, so that they never fill a disk.
const REPORT_FILE: &str = "fleet-tui-panic.txt";
/// What Rust programs end with after a panic.
const EXIT_CODE: i32 = 101;

/// The first panic ends the program; others wait for that.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// From here on every panic ends the program.
pub(super) fn install(report_folder: PathBuf) {
    set_hook(Box::new(move |info| {
        if IS_ENDING.swap(true, Ordering::SeqCst) {
            loop {
                thread::park();
            }
        }
        give_back();
        let said = said(info);
        let path = report_folder.join(REPORT_FILE);
        let report = match write_report(&path, &said) {
            Ok(()) => format!("a report is in {}", escaped(&path.display().to_string())),
            Err(error) => format!("no report could be written: {error}"),
        };
        // Where not even this can be written, nobody reads it.
        let _ = writeln!(io::stderr(), "fleet-tui: internal error: {}\n{report}", escaped(&said));
        exit(EXIT_CODE)
    }));
}

fn said(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let message = payload.downcast_ref::<&str>().copied();
    let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let message = message.unwrap_or("no message");
    match info.location() {
        Some(place) => format!("{message} ({}:{})", place.file(), place.line()),
        None => message.to_owned(),
    }
}

fn write_report(path: &Path, said: &str) -> io::Result<()> {
    // The folder may be everybody's, and a link in it anybody's.
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.custom_flags(nix::libc::O_NOFOLLOW).open(path)?;
    let thread = thread::current();
    writeln!(file, "fleet-tui {VERSION}, {}", SystemClock.now())?;
    writeln!(file, "thread {}: {said}\n", thread.name().unwrap_or("without a name"))?;
    writeln!(file, "{}", Backtrace::force_capture())
}
