//! Other programs that tell about the machine. They are asked for what they know and change nothing.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use super::STEP;

/// Where programs are looked for.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// Bytes of what one says.
const SAID_BYTES_MAX: u64 = 1024 * 1024;

/// What a program said.
#[derive(Debug)]
pub(super) struct Said {
    /// Whether it ended well.
    pub(super) is_good: bool,
    /// What it wrote, of both kinds.
    pub(super) text: String,
}

/// Asks a program; nothing if it is not there, cannot be run, or takes too long.
pub(super) async fn ask(program: &str, args: &[&str]) -> Option<Said> {
    let path = find(program)?;
    tracing::debug!(program = %path.display(), ?args, "asking a program of this machine");
    match timeout(STEP, run(&path, args)).await {
        Ok(Ok(said)) => Some(said),
        Ok(Err(error)) => {
            tracing::debug!(%error, program, "cannot be asked");
            None
        }
        Err(_) => {
            tracing::debug!(program, "does not answer in time");
            None
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the door for programs that only tell something")]
async fn run(path: &Path, args: &[&str]) -> std::io::Result<Said> {
    let mut command = Command::new(path);
    command.args(args).kill_on_drop(true);
    command.env_clear().env("PATH", FOLDERS.join(":")).env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let told = async {
        match stdout {
            Some(pipe) => pipe.take(SAID_BYTES_MAX).read_to_end(&mut out).await,
            None => Ok(0),
        }
    };
    let complained = async {
        match stderr {
            Some(pipe) => pipe.take(SAID_BYTES_MAX).read_to_end(&mut err).await,
            None => Ok(0),
        }
    };
    let (told, complained) = tokio::join!(told, complained);
    told?;
    complained?;
    let is_good = child.wait().await?.success();
    out.extend(err);
    Ok(Said { is_good, text: String::from_utf8_lossy(&out).into_owned() })
}

fn find(program: &str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_is_asked_without_this_process_environment() {
        let said = ask("env", &[]).await.unwrap();
        assert!(said.is_good);
        let mut names: Vec<_> =
            said.text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        names.sort_unstable();
        assert_eq!(names, ["LC_ALL", "PATH"]);
        assert!(!ask("cat", &["/nowhere"]).await.unwrap().is_good);
        assert!(ask("no-such-program", &[]).await.is_none());
    }
}
