//! Why a command failed, in a sentence for people and a code for scripts.

use std::io;
use std::time::Duration;

use serde::Serialize;

use crate::Chain;
use crate::operator::client::ClientError;
use crate::operator::contexts::ContextsError;
use crate::operator::exit::Exit;
use crate::operator::keyfile::KeyFileError;

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// To be told.
    Told(Box<Told>),
    /// Whoever read our output has heard enough: not a failure to speak of.
    NoReader,
}

/// What is told about a failure.
#[derive(Debug, Serialize)]
pub struct Told {
    #[serde(rename = "code")]
    pub(super) exit: Exit,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// What shows the place of the mistake, line by line; for people only.
    #[serde(skip)]
    pub(super) picture: Vec<String>,
    pub(super) request_id: Option<String>,
}

impl Failure {
    /// A failure with one sentence, without a full stop.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::Told(Box::new(Told {
            exit,
            message,
            hint: None,
            picture: Vec::new(),
            request_id: None,
        }))
    }

    /// A call that makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A person stopped it.
    pub fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "interrupted")
    }

    /// A person stopped it at a question.
    pub fn interrupted_at_question() -> Self {
        Self::new(Exit::Interrupted, "interrupted; nothing was sent")
    }

    /// The time for the whole command is up.
    pub fn timed_out(limit: Duration) -> Self {
        Self::new(Exit::TimedOut, format!("not done within {} s", limit.as_secs_f64()))
    }

    /// The same with what would help.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Told(told) = &mut self {
            told.hint = Some(hint.into());
        }
        self
    }

    /// The same with lines that show where the mistake is.
    #[must_use]
    pub fn picture(mut self, lines: impl IntoIterator<Item = impl Into<String>>) -> Self {
        if let Self::Told(told) = &mut self {
            told.picture = lines.into_iter().map(Into::into).collect();
        }
        self
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Told(told) => told.exit,
            Self::NoReader => Exit::Done,
        }
    }

    /// What would help.
    pub fn proposal(&self) -> Option<&str> {
        match self {
            Self::Told(told) => told.hint.as_deref(),
            Self::NoReader => None,
        }
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        match self {
            Self::Told(told) => &told.message,
            Self::NoReader => "nobody reads the output",
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::NoReader
        } else {
            Self::new(Exit::Failed, format!("cannot write the output: {}", Chain(&error)))
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = error.exit();
        let mut failure = Self::new(exit, Chain(&error).to_string());
        if let Some(hint) = client_hint(&error) {
            failure = failure.hint(hint);
        }
        if let Self::Told(told) = &mut failure {
            told.request_id = error.request_id().map(ToString::to_string);
        }
        failure
    }
}

fn client_hint(error: &ClientError) -> Option<String> {
    match error {
        ClientError::KeyWithoutServer => {
            Some("copy the whole key, with what stands behind the @".to_owned())
        }
        ClientError::Connect { url, .. } if url.is_loopback() => Some(
            "start it with `fleets server`, or name another with --server or FLEETD_SERVER"
                .to_owned(),
        ),
        ClientError::Connect { .. } => {
            Some("check the URL, and that this host can reach it".to_owned())
        }
        ClientError::OtherServer { url, found, .. } => Some(match (found.key(), url.is_secure()) {
            (Some(_), _) => "give the URL of the key's server, or a key of that server".to_owned(),
            (None, true) => {
                "if it is your proxy, --ca-file names the authority of its certificate, which is not \
                 that certificate itself unless it says CA:FALSE"
                    .to_owned()
            }
            (None, false) => "if it is your proxy, give its URL with https://".to_owned(),
        }),
        ClientError::Unproved { .. } => Some(
            "a proxy has to pass on the Host header and X-Forwarded-Proto, and the server to know of \
             it by --trusted-proxy"
                .to_owned(),
        ),
        ClientError::Key { .. } => Some(
            "it may be revoked, expired or used up; an admin's `fleets keys create` makes one"
                .to_owned(),
        ),
        ClientError::Refused { .. } if error.exit() == Exit::NotAllowed => Some(
            "`fleets keys whoami` says what this key may do; an admin's `fleets keys create` makes others"
                .to_owned(),
        ),
        ClientError::Refused { .. } if error.is_of_proxy() => Some(
            "a proxy answers, and the server behind it does not: is fleet-server running?"
                .to_owned(),
        ),
        ClientError::Refused { retry_after_secs: Some(secs), .. } => {
            Some(format!("try again in {secs} s"))
        }
        ClientError::ReadOnly => Some(
            "`fleets context set NAME --read-only false` takes that back, if you mean it"
                .to_owned(),
        ),
        ClientError::Refused { .. }
        | ClientError::Name
        | ClientError::Encode(_)
        | ClientError::Exchange { .. }
        | ClientError::Silent { .. }
        | ClientError::Answer { .. } => None,
    }
}

impl From<ContextsError> for Failure {
    fn from(error: ContextsError) -> Self {
        let exit = match &error {
            ContextsError::NoFolder | ContextsError::File(_) => Exit::Configuration,
            ContextsError::Write { .. } => Exit::Failed,
            ContextsError::Unknown { .. }
            | ContextsError::NoServer { .. }
            | ContextsError::Name { .. } => Exit::Usage,
        };
        Self::new(exit, Chain(&error).to_string())
    }
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        let hint = match &error {
            KeyFileError::Missing => Some(
                "give --api-key @FILE or set FLEETD_API_KEY_FILE; a server keeps its \
                 administrator's key in admin.key beside its database",
            ),
            KeyFileError::Unreadable(..) => {
                Some("run this as the server's user, or give --api-key @FILE")
            }
            KeyFileError::Key { .. } => {
                Some("a key looks like flt_op_…@FD1-…; `fleets keys create` makes one")
            }
            KeyFileError::NoFile(_) | KeyFileError::Read { .. } => None,
        };
        let failure = Self::new(Exit::NotAllowed, Chain(&error).to_string());
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
