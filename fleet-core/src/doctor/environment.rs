//! What the services are told by `/etc/fleetd/env`, which systemd reads for them and nobody for a doctor.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::env;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

const FILE: &str = "/etc/fleetd/env";
/// Bytes of the file that are read.
const BYTES_MAX: u64 = 64 * 1024;
/// How all names begin that the programs read.
const PREFIX: &str = "FLEETD_";

/// Starts this program once more with what the file says and this process was not told, if there is
/// such. Returns if there is not, or if this user may not read the file.
pub fn enter() -> io::Result<()> {
    let mut bytes = Vec::new();
    let read = File::open(FILE).and_then(|file| file.take(BYTES_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Err(error) => return Err(error),
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut told = assignments(&text);
    // What is told already goes first, and so this ends: the next time all is.
    told.retain(|name, _| env::var_os(name).is_none());
    if told.is_empty() {
        return Ok(());
    }
    writeln!(io::stderr(), "with what {FILE} tells the services")?;
    again(told).map(|never| match never {})
}

fn again(told: BTreeMap<&str, &str>) -> io::Result<Infallible> {
    Err(Command::new(env::current_exe()?).args(env::args_os().skip(1)).envs(told).exec())
}

/// The assignments to the programs' variables; of two to the same, the later counts.
fn assignments(text: &str) -> BTreeMap<&str, &str> {
    // What has a zero in it can be told to no process.
    let is_ours = |line: &&str| line.starts_with(PREFIX) && !line.contains('\0');
    let lines = text.lines().map(str::trim).filter(is_ours);
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name, plain(value)))
        .collect()
}

/// A value without the quotes around it.
fn plain(value: &str) -> &str {
    ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_assignments_to_the_programs_variables_count() {
        let text = "# FLEETD_A=1\nFLEETD_B=2\n FLEETD_C=\"a b\"\nFLEETD_D='x=y'\nPATH=/tmp\nFLEETD_E\n\
                    FLEETD_B=3\nFLEETD_F=\nFLEETD_G=\0\n";
        let expected =
            [("FLEETD_B", "3"), ("FLEETD_C", "a b"), ("FLEETD_D", "x=y"), ("FLEETD_F", "")];
        assert_eq!(assignments(text), BTreeMap::from(expected));
    }
}
