//! Every setting of server, agent and operators' programs, as one document. Flags, variables and what
//! they do are those of the programs' own command lines; which keys a file has its program says itself.
//! What neither says, a key's value and what holds without it, is said here, and a key that is
//! missing here is an error.

use std::fs;

use anyhow::{Context as _, ensure};
use clap::{Arg, Command};
use fleet_agent::config::{Config, Policy};
use fleet_server::config::{ServerArgs, ServerConfig};

/// What a key's value is, what holds without one, and what it does where no flag says that.
type Key = (&'static str, &'static str, &'static str, &'static str);

const SERVER: &[Key] = &[
    ("port", "0 to 65535", "`8080`", ""),
    ("bind", "an IP address", "all", ""),
    (
        "database",
        "a path",
        "`fleet.db` in `/var/lib/fleetd/`, or of an ordinary user in `~/.local/state/fleetd/server/`",
        "",
    ),
    ("secret_key", "a text", "a key of its own, in `secret.key`", ""),
    ("tls_cert", "a path", "none", ""),
    ("tls_key", "a path", "none", ""),
    ("public_url", "a URL", "the server's own addresses", ""),
    ("interface", "a list of names", "all", ""),
    ("public_status", "`true` or `false`", "`false`", ""),
    ("allowed_host", "a list of names", "none", ""),
    ("trusted_proxy", "a list of addresses or ranges", "none", ""),
    ("keep", "durations and a size", "`raw=48h,1m=14d,10m=90d,1h=730d,size=1GiB`", ""),
    ("agent_packages", "a path", "`/usr/share/fleetd/packages`", ""),
    ("user", "a name or a number, with `:GROUP` if wanted", "whoever starts it", ""),
    ("config", "a path", "`/etc/fleetd/server.yaml`", ""),
    ("debug", "", "", ""),
    ("log_level", "`error`, `warn`, `info`, `debug`, `trace`", "`info`", "How much is logged"),
    ("log_file", "a path", "none", ""),
];

const AGENT: &[Key] = &[
    (
        "device_name",
        "1 to 255 characters",
        "none",
        "What people call the device; its id follows from it, unless that is said",
    ),
    ("device_id", "letters, digits, `.`, `_`, `-`", "the host's name and the start of its key", ""),
    (
        "device_type",
        "a word such as `raspberrypi`",
        "what the machine looks like",
        "Its family, where detection is wrong",
    ),
    ("api_endpoint", "a URL", "who claims it", "The server's URL, with `http` or `https`"),
    ("server_url", "a URL", "", "Another name for `api_endpoint`"),
    ("api_key", "a key", "none", "The enrolment key to come in with"),
    ("ca_file", "a whole path", "the system's", ""),
    ("telemetry.interval", "1s to 24h", "`60s`", "The time between reports"),
    (
        "telemetry.metrics",
        "a list of names",
        "all",
        "The metrics to send; none where the list is empty",
    ),
    (
        "spool.mebibytes",
        "MiB",
        "`64`",
        "How much waits for the server on the disk at most; no more than a tenth of what is free there",
    ),
    (
        "spool.durable",
        "`relaxed` or `strict`",
        "`relaxed`",
        "Whether a power cut may cost the last 5 seconds, or nothing",
    ),
    ("port", "0 to 65535", "`6789`", ""),
    ("interface", "a name", "all", ""),
    ("bind", "an IP address", "all", ""),
    ("probes.name", "64 characters", "what is asked", "What a probe is called"),
    ("probes.icmp", "a host", "", "Whom to send an echo; one of `icmp`, `tcp` and `http`"),
    ("probes.tcp", "a host and a port", "", "Where to connect to"),
    ("probes.http", "a URL", "", "What to get; any answer below 500 is one"),
    ("probes.interval", "1s to 1h", "`10s`", "How often to ask"),
    ("log_level", "`error`, `warn`, `info`, `debug`, `trace`", "`info`", "How much is logged"),
    (
        "config",
        "a path",
        "`/etc/fleetd/config.yaml`; a user's own `~/.config/fleetd/config.yaml` goes first",
        "",
    ),
    (
        "data_dir",
        "a path",
        "root's is `/var/lib/fleetd-agent`, others' `~/.local/state/fleetd/agent`",
        "",
    ),
    ("sysroot", "a path", "`/`", ""),
    ("log_file", "a path", "none", ""),
    ("debug", "", "", ""),
];

const POLICY: &[Key] = &[
    (
        "claim",
        "`open`, `code`, `key`, `disabled`",
        "`open`",
        "What whoever claims the device must show",
    ),
    ("commands", "a list of words", "all", "What its server may have it do"),
    ("exec.allow", "a list of programs, or `any`", "none", "Programs that its server may run"),
];

const CONTEXT: &[Key] = &[
    ("server", "a URL", "", "Where it is"),
    ("api_key_file", "a path", "none", "Where the key to it is; the file holds no key itself"),
    ("colour", "`red` and others", "none", "What tells it from others at a glance"),
    (
        "read_only",
        "`true` or `false`",
        "`false`",
        "Whether whatever would change something is refused before it is sent",
    ),
];

/// Variables that a help text names, and clap does not know of.
const NAMED: &[(&str, &str)] = &[
    ("server", "`FLEETD_SERVER`"),
    ("api_key", "`FLEETD_API_KEY`, `FLEETD_API_KEY_FILE`"),
    ("context", "`FLEETD_CONTEXT`"),
    ("reason", "`FLEETD_REASON`"),
];

const HEAD: &str = "# Every setting

<!-- Written by `cargo xtask docs`. -->

A flag comes before a variable, which comes before a file, which comes before what holds unless said. A file that says something that
cannot be followed is refused as a whole, by line and column, and the program ends with 78. Durations are written as `30s`, `5m`, `12h` or
`7d`. What a server tells its devices to do otherwise is [their configuration](configure-devices.md).
";

/// The whole document.
pub(super) fn document() -> anyhow::Result<String> {
    let fleets = fleet_server::cli::command();
    let server = subcommand(&fleets, "server")?;
    let fleetd = fleet_agent::cli::command();
    let agent = subcommand(&fleetd, "agent")?;
    let console = fleet_tui::cli::command();

    let mut text = HEAD.to_owned();
    text.push_str("\n## The server\n\n`fleets server`, and `/etc/fleetd/server.yaml`.\n\n");
    let flags: Vec<&Arg> = server.get_arguments().chain(fleets.get_arguments()).collect();
    text.push_str(&table(&known("", server_keys)?, SERVER, &flags)?);

    text.push_str("\n## The agent\n\n`fleetd agent`, and `/etc/fleetd/config.yaml`.\n\n");
    let mut keys = Vec::new();
    for key in known("", agent_keys)? {
        match key.as_str() {
            "telemetry" | "spool" => keys.extend(known(&key, agent_keys)?),
            "probes" => keys.extend(known("probes: [{", agent_keys)?),
            _ => keys.push(key),
        }
    }
    let flags: Vec<&Arg> = agent.get_arguments().chain(fleetd.get_arguments()).collect();
    text.push_str(&table(&keys, AGENT, &flags)?);

    text.push_str(
        "\n## What a device lets others do\n\n`/etc/fleetd/policy.yaml`, which no server can change; [claims](first-fleet.md#claims) \
         and [commands](commands.md#what-a-device-lets-its-server-do) say more.\n\n",
    );
    let mut keys = Vec::new();
    for key in known("", policy_keys)? {
        if key == "exec" { keys.extend(known(&key, policy_keys)?) } else { keys.push(key) }
    }
    text.push_str(&table(&keys, POLICY, &[])?);

    text.push_str("\n## Operators' programs\n\nOf `fleets` and `fleet-tui` alike:\n\n");
    let devices = subcommand(&fleets, "devices")?;
    let configure = subcommand(&fleets, "configure")?;
    let wanted = |arg: &&Arg| {
        let id = arg.get_id().as_str();
        NAMED.iter().any(|(name, _)| *name == id) || ["ca_file", "claim_key_file"].contains(&id)
    };
    let shared = devices.get_arguments().filter(wanted);
    let claims = configure.get_arguments().filter(|arg| arg.get_id() == "claim_key_file");
    text.push_str(&table(&[], &[], &shared.chain(claims).collect::<Vec<_>>())?);
    text.push_str("\nOf `fleet-tui` alone:\n\n");
    let own =
        ["read_only", "filter", "color", "theme", "ascii", "graphs", "refresh", "auto", "debug"];
    let flags: Vec<&Arg> =
        console.get_arguments().filter(|arg| own.contains(&arg.get_id().as_str())).collect();
    ensure!(flags.len() == own.len(), "a flag of the console is gone");
    text.push_str(&table(&[], &[], &flags)?);
    text.push_str("\n`NO_COLOR` is heeded by all of them.\n\n### Contexts\n\n");
    text.push_str(
        "`~/.config/fleetd/contexts.toml`, which `fleets context set` writes: for each context\n\n",
    );
    let keys: Vec<String> = CONTEXT.iter().map(|(key, ..)| (*key).to_owned()).collect();
    text.push_str(&table(&keys, CONTEXT, &[])?);
    Ok(text)
}

fn subcommand<'a>(program: &'a Command, name: &str) -> anyhow::Result<&'a Command> {
    program.find_subcommand(name).with_context(|| format!("there is no command {name}"))
}

/// A row for each key of the file, then for each flag that no file has.
fn table(keys: &[String], told: &[Key], flags: &[&Arg]) -> anyhow::Result<String> {
    let (has_file, has_flags) = (!keys.is_empty(), !flags.is_empty());
    let mut text = String::new();
    let mut line = |cells: [&str; 6]| {
        let shown = cells.iter().enumerate().filter(|(column, _)| match column {
            0 => has_file,
            1 | 2 => has_flags,
            _ => true,
        });
        for (_, cell) in shown {
            text.push_str("| ");
            text.push_str(cell);
            text.push(' ');
        }
        text.push_str("|\n");
    };
    line(["in the file", "flag", "variable", "value", "unless said", ""]);
    line(["---"; 6]);
    let flag_of = |key: &str| flags.iter().find(|arg| arg.get_id().as_str() == key).copied();
    let alone = flags.iter().filter(|arg| {
        let id = arg.get_id().as_str();
        !keys.iter().any(|key| key == id) && !["help", "version"].contains(&id)
    });
    let rows = keys.iter().map(|key| (Some(key.as_str()), flag_of(key)));
    let mut rows: Vec<(Option<&str>, Option<&Arg>)> = rows.collect();
    rows.extend(alone.map(|arg| (None, Some(*arg))));
    for (key, flag) in &rows {
        let id = key.or(flag.map(|arg| arg.get_id().as_str())).context("a row without a name")?;
        let found = told.iter().find(|(name, ..)| *name == id);
        ensure!(found.is_some() || told.is_empty(), "nothing is said of {id}");
        let (_, value, default, own) = found.copied().unwrap_or((id, "", "", ""));
        let does = flag.map(help).filter(|_| own.is_empty());
        let does = does.unwrap_or_else(|| own.to_owned());
        ensure!(!does.is_empty(), "nothing is said of what {id} does");
        let named = NAMED.iter().find(|(name, _)| *name == id && told.is_empty());
        let variable = flag.and_then(Arg::get_env).map(|name| name.to_string_lossy().into_owned());
        let variable = match (named, variable.filter(|name| name.starts_with("FLEETD_"))) {
            (Some((_, variables)), _) => (*variables).to_owned(),
            (None, variable) => variable.map_or(String::new(), |name| format!("`{name}`")),
        };
        let value =
            if value.is_empty() { flag.map_or(String::new(), values) } else { value.to_owned() };
        let flag = flag.and_then(Arg::get_long).map_or(String::new(), |long| format!("`--{long}`"));
        let key = key.map_or(String::new(), |key| format!("`{key}`"));
        line([&key, &flag, &variable, &value, default, &does.replace('|', "\\|")]);
    }
    let unknown = told.iter().find(|(name, ..)| {
        !rows
            .iter()
            .any(|(key, flag)| *key == Some(*name) || flag.is_some_and(|it| it.get_id() == *name))
    });
    ensure!(unknown.is_none(), "there is no {unknown:?} any more");
    Ok(text)
}

/// What a flag does, without what the columns beside it say.
fn help(arg: &Arg) -> String {
    let text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let text = text.split("[default:").next().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches('.').to_owned()
}

/// The words that a flag takes, or what they are called.
fn values(arg: &Arg) -> String {
    let words: Vec<String> =
        arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    let takes = arg.get_action().takes_values();
    match arg.get_value_names() {
        _ if !takes => String::new(),
        _ if !words.is_empty() => words.join(", "),
        Some([name]) => name.to_lowercase().replace('|', " or "),
        _ => String::new(),
    }
}

/// The keys that a file may have, which its program names where it finds another: at its top, or
/// within one of them.
fn known(
    within: &str,
    complaint: fn(&str) -> anyhow::Result<String>,
) -> anyhow::Result<Vec<String>> {
    let text = match within {
        "" => "no_key: 1\n".to_owned(),
        _ if within.contains(": [") => format!("{within}no_key: 1}}]\n"),
        _ => format!("{within}: {{no_key: 1}}\n"),
    };
    let said = complaint(&text)?;
    let (_, keys) = said.split_once("known are ").with_context(|| said.clone())?;
    let group = within.split(':').next().unwrap_or_default();
    let whole =
        |key: &str| if group.is_empty() { key.to_owned() } else { format!("{group}.{key}") };
    Ok(keys.trim().split(", ").map(whole).collect())
}

fn server_keys(text: &str) -> anyhow::Result<String> {
    let file = written(text)?;
    let args = ServerArgs { config: Some(file.path().to_owned()), ..ServerArgs::default() };
    Ok(ServerConfig::resolve(args).err().context("a file that is refused")?.to_string())
}

fn agent_keys(text: &str) -> anyhow::Result<String> {
    let file = written(text)?;
    Ok(Config::load(file.path(), true).err().context("a file that is refused")?.to_string())
}

fn policy_keys(text: &str) -> anyhow::Result<String> {
    let file = written(text)?;
    Ok(Policy::load(file.path(), true).err().context("a file that is refused")?.to_string())
}

fn written(text: &str) -> anyhow::Result<tempfile::NamedTempFile> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), text)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_repository_has_the_document_that_would_be_written() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
        let there = std::fs::read_to_string(path).unwrap();
        let wanted = super::document().unwrap();
        assert!(there == wanted, "docs/configuration.md is out of date: cargo xtask docs");
    }
}
