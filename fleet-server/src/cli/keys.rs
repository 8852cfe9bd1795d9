//! `fleets keys`: the keys to the server. A key's text is shown once, when it is made, alone on
//! stdout so that it can go straight into a file.

use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use fleet_core::api::role::words;
use fleet_core::api::{
    KeyCreate, KeyCreated, KeyRotate, KeyState, KeyView, Me, Right, Rights, Role,
};
use fleet_core::cli::args;
use fleet_core::cli::choice::ServerChoice;
use fleet_core::cli::each::for_each;
use fleet_core::cli::failure::Failure;
use fleet_core::cli::listed::{Format, FormatArgs, Listed, Reader};
use fleet_core::cli::output::Output;
use fleet_core::cli::session::{self, TimeLimit};
use fleet_core::cli::table::{Cell, Column};
use fleet_core::glyph::Tone;
use fleet_core::operator::client::Client;
use fleet_core::operator::exit::Exit;
use fleet_core::secret::KeyKind;
use fleet_core::time::{Clock as _, SystemClock};
use fleet_core::untrusted::Untrusted;
use serde::Serialize;

use super::device_list::check_filter;

/// What to do with which key.
#[derive(Debug, clap::Args)]
pub(super) struct KeysArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ServerChoice,
    #[command(flatten)]
    limit: TimeLimit,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key: an operator's unless told otherwise
    Create(CreateArgs),
    /// Make a key's successor, which may do the same; the old one ends after a while
    Rotate {
        /// Its id
        #[arg(value_name = "ID")]
        id: String,
        /// How long the old one goes on; 0s ends it at once
        #[arg(long, value_parser = args::duration, value_name = "DURATION", default_value = "24h")]
        overlap: Duration,
    },
    /// Say whose key this command uses, and what it may do
    Whoami,
    /// List the keys, without their secrets
    List,
    /// End keys
    Revoke {
        /// Their ids
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// A key that lets devices in, and nothing else
    #[arg(long, conflicts_with = "device")]
    enrol: bool,
    /// How many devices an enrolment key lets in; one unless given
    #[arg(long, value_name = "N", requires = "enrol")]
    uses: Option<u32>,
    /// Make a link besides, by which a device installs the agent and is let in; it lasts as long as the
    /// key, a day unless given
    #[arg(long, requires = "enrol")]
    install_url: bool,
    /// A key that posts telemetry for this device, and nothing else
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// What an operator's key may do: viewer, operator or admin; operator unless given
    #[arg(long, value_name = "ROLE", conflicts_with_all = ["enrol", "device"])]
    role: Option<Role>,
    /// What it may do besides: exec, delete, export; an admin may do all of it
    #[arg(long, value_name = "RIGHTS", value_delimiter = ',', conflicts_with_all = ["enrol", "device"])]
    allow: Vec<Right>,
    /// The devices it is for, as a filter such as site=lyon; all unless given
    #[arg(long, value_name = "FILTER", conflicts_with_all = ["enrol", "device"])]
    scope: Option<String>,
    /// When it expires, such as 30d, or never; an operator's key after 90 days unless given, others
    /// never
    #[arg(long, value_parser = expiry, value_name = "DURATION")]
    expires: Option<Expiry>,
    /// What it is for
    #[arg(long, default_value = "", value_name = "TEXT")]
    label: String,
}

/// Runs the command.
pub(super) fn run(args: KeysArgs) -> ExitCode {
    let (format, limit) = (args.format, args.limit);
    session::run(format, Some(limit), async |output| keys(args, output).await)
}

async fn keys(args: KeysArgs, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let client = args.server.client(output)?;
    match args.action {
        Action::Create(args) => create(args, &client, output).await,
        Action::List => {
            let keys: Vec<_> = client.key_list().await?.into_iter().map(Key).collect();
            output.list(&keys)?;
            Ok(Exit::Done)
        }
        Action::Rotate { id, overlap } => {
            let request = KeyRotate { overlap_secs: Some(overlap.as_secs()) };
            let created = client.key_rotate(&id, &request).await?;
            let what = format!("the key {}, in place of {id}", created.id);
            tell_created(created, &what, output)?;
            Ok(Exit::Done)
        }
        Action::Whoami => {
            tell_me(&client.me().await?, output)?;
            Ok(Exit::Done)
        }
        Action::Revoke { ids } => {
            let revoke = async |id: &str| client.key_revoke(id).await;
            for_each(&ids, "revoked", revoke, output).await
        }
    }
}

impl CreateArgs {
    fn request(self) -> KeyCreate {
        let kind = match (self.enrol, &self.device) {
            (true, _) => KeyKind::Enrol,
            (false, Some(_)) => KeyKind::Device,
            (false, None) => KeyKind::Operator,
        };
        KeyCreate {
            kind,
            label: self.label,
            uses: self.enrol.then(|| self.uses.unwrap_or(1)),
            expires_in_secs: match self.expires {
                Some(Expiry::After(life)) => Some(life.as_secs()),
                Some(Expiry::Never) | None => None,
            },
            never_expires: kind == KeyKind::Operator && self.expires == Some(Expiry::Never),
            device_id: self.device,
            role: self.role,
            rights: self.allow.into_iter().collect(),
            scope: self.scope,
            install_url: self.install_url,
        }
    }
}

async fn create(
    args: CreateArgs,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    if args.install_url && args.expires == Some(Expiry::Never) {
        return Err(Failure::usage(
            "a link ends: --expires says after how long, a day unless given",
        ));
    }
    check_filter("--scope", args.scope.as_deref().unwrap_or_default())?;
    let request = args.request();
    let created = client.key_create(&request).await?;
    let uses = request.uses.map(|uses| format!(" for {uses} device(s)")).unwrap_or_default();
    let what = format!("the {} key {}{uses}", request.kind, created.id);
    tell_created(created, &what, output)?;
    Ok(Exit::Done)
}

/// When a key ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry {
    After(Duration),
    Never,
}

fn expiry(text: &str) -> Result<Expiry, String> {
    if text == "never" {
        return Ok(Expiry::Never);
    }
    args::duration(text).map(Expiry::After).map_err(|error| format!("{error}, or never"))
}

/// Who asks, and what they may do.
fn tell_me(me: &Me, output: &mut Output<'_>) -> Result<(), Failure> {
    Ok(output.list(&[Myself(me.clone())])?)
}

#[derive(Serialize)]
#[serde(transparent)]
struct Myself(Me);

impl Listed for Myself {
    const COLUMNS: &'static [Column] = &[
        Column::new("ID", 10),
        Column::new("KIND", 8),
        Column::new("ROLE", 8),
        Column::new("RIGHTS", 18),
        Column::new("LABEL", 20),
        Column::new("SCOPE", 20),
        Column::new("EXPIRES", 9),
        Column::spare("DEVICE ID", 20, 1),
    ];

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        let Self(me) = self;
        vec![
            Cell::new(&me.id),
            Cell::new(me.kind),
            Cell::maybe(me.role),
            Cell::maybe(some_words(&me.rights)),
            Cell::new(&me.label),
            Cell::maybe(me.scope.as_ref()),
            reader.time(me.expires_at),
            Cell::maybe(me.device_id.as_ref()),
        ]
    }

    fn name(&self) -> String {
        self.0.id.clone()
    }
}

/// Rights in words, if there are some.
fn some_words(rights: &Rights) -> Option<String> {
    (!rights.is_empty()).then(|| words(rights))
}

/// Shows the key, whatever the format: nobody can show it again.
fn tell_created(created: KeyCreated, what: &str, output: &mut Output<'_>) -> Result<(), Failure> {
    let what = format!("{what}{}", told(&created));
    let note =
        format!("This is {what}. It is shown this once; keep it in a file that only you can read.");
    match output.format {
        Format::Table | Format::Wide | Format::Name => match &created.install {
            Some(install) => {
                output.line(&Untrusted::from(install.command.as_str()).to_string())?;
                output.note(&format!(
                    "Run this on a device that is to have an agent. It lets it in by {what}. It is shown \
                     this once, and whoever has it has the key: fleets keys revoke {} ends both.",
                    created.id
                ))?;
            }
            None => {
                output.line(&created.key)?;
                output.note(&note)?;
            }
        },
        Format::Json | Format::Jsonl => {
            output.line(&serde_json::to_string(&created).map_err(io::Error::from)?)?;
        }
        Format::Csv => output.list(&[NewKey(created)])?,
    }
    Ok(())
}

/// What a new key may do, and until when.
fn told(created: &KeyCreated) -> String {
    let mut text = created.role.map(|role| format!(", {role}")).unwrap_or_default();
    if let Some(rights) = some_words(&created.rights) {
        let _ = write!(text, " with {rights}");
    }
    if let Some(scope) = &created.scope {
        let _ = write!(text, ", for devices of {scope}");
    }
    match created.expires_at {
        Some(end) => text + &format!(", until {end}"),
        None => text + ", which does not expire",
    }
}

/// A key that was just made, with its secret.
#[derive(Serialize)]
#[serde(transparent)]
struct NewKey(KeyCreated);

impl Listed for NewKey {
    const COLUMNS: &'static [Column] =
        &[Column::new("ID", 10), Column::new("KEY", 80), Column::new("INSTALL", 120)];

    fn cells(&self, _reader: Reader) -> Vec<Cell> {
        let install = self.0.install.as_ref().map(|install| &install.command);
        vec![Cell::new(&self.0.id), Cell::new(&self.0.key), Cell::maybe(install)]
    }

    fn name(&self) -> String {
        self.0.key.clone()
    }
}

/// A key in a list.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Key(KeyView);

impl Listed for Key {
    const COLUMNS: &'static [Column] = &[
        Column::new("ID", 10),
        Column::new("KIND", 8),
        Column::new("ROLE", 8),
        Column::new("STATE", 8),
        Column::new("LABEL", 20),
        Column::spare("RIGHTS", 18, 5),
        Column::spare("SCOPE", 20, 1),
        Column::spare("DEVICE ID", 20, 6),
        Column::spare("USES LEFT", 9, 7).of_numbers(),
        Column::spare("EXPIRES", 9, 2),
        Column::spare("LAST USED", 9, 3),
        Column::spare("FROM", 15, 4),
        Column::spare("CREATED", 9, 8),
        Column::spare("BY", 20, 9),
    ];

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        let Self(key) = self;
        let state = key.state(SystemClock.now());
        vec![
            Cell::new(&key.id),
            Cell::new(key.kind),
            Cell::maybe(key.role),
            Cell::new(state).toned(tone(state)),
            Cell::new(&key.label),
            Cell::maybe(some_words(&key.rights)),
            Cell::maybe(key.scope.as_ref()),
            Cell::maybe(key.device_id.as_ref()),
            Cell::maybe(key.uses_left),
            reader.time(key.expires_at),
            reader.time(key.last_used),
            Cell::maybe(key.last_used_from),
            reader.time(Some(key.created_at)),
            Cell::maybe(key.created_by.as_ref()),
        ]
    }

    fn name(&self) -> String {
        self.0.id.clone()
    }
}

fn tone(state: KeyState) -> Tone {
    match state {
        KeyState::Active => Tone::Good,
        KeyState::Rotating => Tone::Busy,
        KeyState::UsedUp | KeyState::Expired => Tone::Warn,
        KeyState::Revoked => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use clap::{Parser as _, ValueEnum as _};
    use fleet_core::cli::output::Terminal;
    use fleet_core::cli::testing::{HOSTILE, assert_harmless, written};
    use fleet_core::time::Timestamp;

    use super::*;

    #[derive(clap::Parser)]
    struct Call {
        #[command(flatten)]
        args: CreateArgs,
    }

    fn request(call: &[&str]) -> Result<KeyCreate, clap::Error> {
        Call::try_parse_from([&["create"], call].concat()).map(|call| call.args.request())
    }

    #[test]
    fn each_kind_of_key_is_asked_for() {
        let operator = request(&["--expires", "30d"]).unwrap();
        assert_eq!((operator.kind, operator.uses), (KeyKind::Operator, None));
        assert_eq!(operator.expires_in_secs, Some(2_592_000));
        let enrol = request(&["--enrol"]).unwrap();
        assert_eq!((enrol.kind, enrol.uses), (KeyKind::Enrol, Some(1)));
        assert_eq!(request(&["--enrol", "--uses", "5"]).unwrap().uses, Some(5));
        let device = request(&["--device", "rpi4-001"]).unwrap();
        assert_eq!((device.kind, device.device_id.as_deref()), (KeyKind::Device, Some("rpi4-001")));
        for bad in [&["--uses", "5"][..], &["--enrol", "--device", "a"], &["--expires", "soon"]] {
            assert!(request(bad).is_err(), "{bad:?}");
        }
    }

    fn key(label: &str) -> KeyView {
        let time = Timestamp::from_millis(1_705_314_600_000);
        KeyView {
            id: "abcdefghij".to_owned(),
            kind: KeyKind::Enrol,
            label: label.into(),
            device_id: None,
            uses_left: Some(2),
            created_at: time,
            created_by: None,
            succeeds: None,
            succeeded_by: None,
            expires_at: Some(time.plus(Duration::from_secs(60))),
            revoked_at: None,
            last_used: None,
            last_used_from: None,
            role: None,
            rights: Rights::new(),
            scope: None,
        }
    }

    fn created() -> KeyCreated {
        KeyCreated {
            id: "abcdefghij".into(),
            key: "flt_en_x@FD1-y".into(),
            expires_at: None,
            role: None,
            rights: Rights::new(),
            scope: None,
            install: None,
        }
    }

    #[test]
    fn a_new_key_comes_out_in_every_format() {
        for format in Format::value_variants() {
            let (mut output, out, _) = written(*format, Terminal::default());
            tell_created(created(), "the enrol key x", &mut output).unwrap();
            assert!(out.text().contains("flt_en_x@FD1-y"), "{format:?}: {}", out.text());
            match format {
                Format::Csv => {
                    assert_eq!(out.text(), "id,key,install\nabcdefghij,flt_en_x@FD1-y,\n");
                }
                Format::Name => assert_eq!(out.text(), "flt_en_x@FD1-y\n"),
                Format::Table | Format::Wide | Format::Json | Format::Jsonl => {}
            }
        }
    }

    #[test]
    fn what_a_new_key_may_do_is_told_with_it() {
        assert_eq!(told(&created()), ", which does not expire");
        let key = KeyCreated {
            expires_at: Some(Timestamp::from_millis(1_705_314_600_000)),
            role: Some(Role::Operator),
            rights: Rights::from([Right::Exec, Right::Delete]),
            scope: Some(Untrusted::new("site=berlin")),
            ..created()
        };
        let words = told(&key);
        assert_eq!(
            words,
            ", operator with exec,delete, for devices of site=berlin, until 2024-01-15T10:30:00Z"
        );
    }

    #[test]
    fn a_key_is_active_until_it_is_not() {
        let before = Timestamp::from_millis(1_705_314_600_000);
        let after = before.plus(Duration::from_secs(60));
        let state = |key: KeyView, now| key.state(now).word();
        assert_eq!(state(key(""), before), "active");
        assert_eq!(state(key(""), after), "expired");
        let succeeded_by = Some("klmnopqrst".to_owned());
        assert_eq!(state(KeyView { succeeded_by, ..key("") }, before), "rotating");
        assert_eq!(state(KeyView { uses_left: Some(0), ..key("") }, before), "used up");
        assert_eq!(state(KeyView { revoked_at: Some(before), ..key("") }, after), "revoked");
    }

    #[test]
    fn hostile_labels_do_no_harm() {
        for format in Format::value_variants() {
            let (mut output, out, _) = written(*format, Terminal::default());
            for text in HOSTILE {
                output.list(&[Key(key(text))]).unwrap();
            }
            assert_harmless(&out.text());
        }
    }
}
