//! Whole files in, settings or one sentence out.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use fleet_core::Chain;
use proptest::prelude::*;

use super::*;
use crate::sys::SysRoot;

fn load(text: &str) -> Result<Loaded, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    Config::load(&path, true)
}

/// What the owner reads, from the line on.
fn complaint(text: &str) -> String {
    let error = load(text).expect_err(text);
    let shown = Chain(&error).to_string();
    shown.split_once("config.yaml").expect("names the file").1.to_owned()
}

#[test]
fn the_reference_file_reads() {
    let loaded = load(
        r#"# /etc/fleetd/config.yaml
device_name: "rpi4-001"
api_endpoint: "http://fleet-server:8080"
api_key: "auto-generated-key"
telemetry:
  interval: 60s
  metrics:
    - cpu_usage
    - memory_usage
    - disk_usage
"#,
    )
    .unwrap();
    let config = &loaded.config;
    assert_eq!(config.device_name.as_deref(), Some("rpi4-001"));
    assert_eq!(config.api_endpoint.as_deref(), Some("http://fleet-server:8080"));
    assert_eq!(config.api_key.as_ref().unwrap().expose(), "auto-generated-key");
    assert_eq!(config.telemetry.interval, Duration::from_secs(60));
    let metrics = ["cpu_usage", "memory_usage", "disk_usage"].map(str::to_owned);
    assert_eq!(config.telemetry.metrics.as_deref(), Some(&metrics[..]));
    assert_eq!(loaded.warnings, []);
    loaded.check_metrics(&Sampler::new(&SysRoot::real())).unwrap();
    assert!(!format!("{loaded:?}").contains("auto-generated-key"));
}

#[test]
fn every_other_key_reads() {
    let config = load(
        "server_url: https://fleet.example\ndevice_id: rpi4-001\ndevice_type: jetson\n\
         port: 0\ninterface: lo\nbind: 127.0.0.1\nlog_level: debug\ntelemetry: {interval: 90}\n\
         spool: {mebibytes: 3, durable: strict}\n",
    )
    .unwrap()
    .config;
    assert_eq!(config.api_endpoint.as_deref(), Some("https://fleet.example"));
    assert_eq!(config.device_id.unwrap().as_str(), "rpi4-001");
    assert_eq!(config.device_type, Some(DeviceType::Jetson));
    assert_eq!((config.port, config.interface.as_deref()), (Some(0), Some("lo")));
    assert_eq!(config.bind, Some(IpAddr::from([127, 0, 0, 1])));
    assert_eq!(config.log_level, Some(tracing::Level::DEBUG));
    assert_eq!(config.telemetry.interval, Duration::from_secs(90));
    assert_eq!(config.spool, SpoolSettings { bytes_max: 3 * 1024 * 1024, strict: true });
}

#[test]
fn nothing_said_is_nothing_set() {
    for text in ["", "# only a comment\n", "---\n", "{}\n", "telemetry:\ndevice_name:\n"] {
        assert_eq!(load(text).unwrap().config, Config::default(), "{text:?}");
    }
}

#[test]
fn complaints_have_a_place_and_a_next_step() {
    for (text, expected) in [
        (
            "port: 1\ndevicename: x\n",
            ", line 2, column 1: unknown key \"devicename\"; did you mean device_name?; known are ",
        ),
        (
            "telemetry:\n  intervall: 5s\n",
            ", line 2, column 3: unknown key \"intervall\"; did you mean interval?; known are ",
        ),
        (
            "telemetry:\n  interval: 0s\n",
            ", line 2, column 13: interval must be between 1s and 24h",
        ),
        (
            "telemetry:\n  interval: 25h\n",
            ", line 2, column 13: interval must be between 1s and 24h",
        ),
        (
            "telemetry:\n  interval: soon\n",
            ", line 2, column 13: interval \"soon\" is not a duration like 30s, 5m, 1h or 7d",
        ),
        (
            "spool:\n  mebibytes: 0\n",
            ", line 2, column 14: mebibytes must be a number from 1 to 65536",
        ),
        ("spool:\n  durable: yes\n", ", line 2, column 12: durable must be strict or relaxed"),
        ("device_id: Rpi 4\n", ", line 1, column 12: \"Rpi 4\" is not a device id"),
        ("device_type: toaster\n", ", line 1, column 14: \"toaster\" is not a device type"),
        (
            "api_endpoint: fleet-server\n",
            ", line 1, column 15: api_endpoint is not a URL like https://server:8080",
        ),
        ("api_endpoint: ftp://server\n", ", line 1, column 15: api_endpoint is not a URL"),
        (
            "api_endpoint: http://me:secret@server\n",
            ", line 1, column 15: api_endpoint is not a URL",
        ),
        (
            "api_endpoint: http://a\nserver_url: http://b\n",
            ", line 2, column 13: server_url is another name for api_endpoint",
        ),
        ("port: 70000\n", ", line 1, column 7: port is not a number from 0 to 65535"),
        ("bind: everywhere\n", ", line 1, column 7: bind is not an IP address"),
        ("interface: a/b\n", ", line 1, column 12: interface is not"),
        ("log_level: loud\n", ", line 1, column 12: log_level must be error, warn"),
        (
            "telemetry:\n  metrics:\n    - cpu_usage\n    - 'cpu usage'\n",
            ", line 4, column 7: \"cpu usage\" is not a metric name",
        ),
        ("device_name: ' '\n", ", line 1, column 14: device_name must have"),
        ("port: 1\nport: 2\n", ", line 2, column 1: \"port\" is said twice"),
        ("device_name: [\n", ", line "),
        ("- a\n- b\n", ", line 1, column 1: must be keys with values, like port: 6789"),
        ("telemetry:\n  metrics: cpu_usage\n", ", line 2, column 12: must be a list"),
        ("device_name: [a]\n", ", line 1, column 14: must be one value"),
    ] {
        let shown = complaint(text);
        assert!(shown.starts_with(expected), "{text:?} gave {shown:?}, not {expected:?}");
    }
}

#[test]
fn a_metric_that_nobody_measures_is_an_error_with_its_line() {
    let loaded = load("telemetry:\n  metrics: [cpu_usage,\n    memory_usge]\n").unwrap();
    let error = loaded.check_metrics(&Sampler::new(&SysRoot::real())).unwrap_err();
    let shown = error.to_string();
    assert!(shown.contains("line 3, column 5: unknown metric memory_usge; known are cpu_usage"));
    assert!(shown.ends_with("; did you mean memory_usage?"), "{shown}");
}

#[test]
fn a_key_never_shows() {
    for text in [
        "api_key: [flt_en_secret]\n",
        "api_key: {flt_en_secret: 1}\n",
        "api_key: 'flt_en_secret with space'\n",
        "api_key: flt_en_secret\nport: flt_en_secret\n",
        "telemetry: flt_en_secret\n",
        "api_key: 'flt_en_secret\n",
    ] {
        let shown = complaint(text);
        assert!(!shown.contains("flt_en_secret"), "{shown}");
    }
}

#[test]
fn files_that_are_absent_or_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("config.yaml");
    assert_eq!(Config::load(&absent, false).unwrap().config, Config::default());
    assert!(matches!(Config::load(&absent, true), Err(ConfigError::Missing { .. })));
    let error = Config::load(folder.path(), false).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }), "{error}");

    fs::write(&absent, vec![b'#'; 1024 * 1024 + 1]).unwrap();
    assert!(matches!(Config::load(&absent, false), Err(ConfigError::TooLarge { .. })));
}

#[test]
fn a_key_for_everyone_to_read_is_worth_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    for (text, mode, warnings) in
        [("api_key: k\n", 0o644, 1), ("api_key: k\n", 0o640, 0), ("port: 1\n", 0o644, 0)]
    {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(Config::load(&path, false).unwrap().warnings.len(), warnings, "{text} {mode:o}");
    }
}

#[test]
fn t12_a_policy_reads_and_never_falls_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.yaml");
    assert_eq!(Policy::load(&path, false).unwrap().claim, ClaimPolicy::Open);
    for (text, claim) in [
        ("claim: disabled\n", Some(ClaimPolicy::Disabled)),
        ("claim: open\n", Some(ClaimPolicy::Open)),
        ("", Some(ClaimPolicy::Open)),
        ("claim: closed\n", None),
        ("claims: disabled\n", None),
        ("claim: disabled\nclaim: open\n", None),
    ] {
        fs::write(&path, text).unwrap();
        assert_eq!(Policy::load(&path, false).ok().map(|policy| policy.claim), claim, "{text:?}");
    }
}

fn policy(text: &str) -> Result<Policy, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.yaml");
    fs::write(&path, text).unwrap();
    Policy::load(&path, true)
}

#[test]
fn a_policy_says_what_a_server_may_have_done() {
    let all = ["restart", "restart nginx", "reboot", "collect", "logs"];
    for (text, allowed, refused) in [
        ("", &all[..], &["exec ls"][..]),
        ("commands:\nexec:\n", &all, &["exec ls"]),
        ("commands: []\n", &[], &["reboot", "collect", "exec ls"]),
        (
            "commands: [collect, logs]\nexec: {allow: any}\n",
            &["collect", "logs -n 5"],
            &["reboot", "exec ls"],
        ),
        ("commands: [exec]\n", &[], &["exec ls", "reboot"]),
        ("exec:\n  allow: any\n", &["exec ls -l", "exec /bin/sh", "reboot"], &[]),
        (
            "exec:\n  allow:\n    - uptime\n    - [systemctl, status]\n    - [/opt/tool, '-v', '']\n",
            &[
                "exec uptime",
                "exec uptime -p",
                "exec systemctl status",
                "exec systemctl status nginx",
            ],
            &[
                "exec systemctl",
                "exec systemctl stop status",
                "exec /usr/bin/uptime",
                "exec upt",
                "exec /opt/tool -v",
            ],
        ),
        ("exec: {allow: []}\n", &all, &["exec ls"]),
    ] {
        let policy = policy(text).unwrap().commands;
        for command in allowed {
            assert_eq!(policy.permits(&command.parse().unwrap()), Ok(()), "{text:?} {command}");
        }
        for command in refused {
            let why = policy.permits(&command.parse().unwrap()).expect_err(command);
            assert!(why.contains("/etc/fleetd/policy.yaml would"), "{why}");
        }
    }
}

#[test]
fn what_a_policy_cannot_mean_is_an_error_with_its_place() {
    for (text, expected) in [
        (
            "commands: [collect, rebot]\n",
            ", line 1, column 21: there is no command \"rebot\"; there are restart, reboot, collect, logs, rotate-key, exec; did you mean reboot?",
        ),
        ("commands: reboot\n", ", line 1, column 11: must be a list"),
        ("comands: []\n", ", line 1, column 1: unknown key \"comands\"; did you mean commands?"),
        ("exec:\n  alow: any\n", ", line 2, column 3: unknown key \"alow\"; did you mean allow?"),
        ("exec:\n  allow: all\n", ", line 2, column 10: allow must be any, or a list of programs"),
        ("exec:\n  allow: [[]]\n", ", line 2, column 10: a program without a name"),
        ("exec:\n  allow: ['']\n", ", line 2, column 10: a program without a name"),
        ("exec:\n  allow: {ls: 1}\n", ", line 2, column 10: must be any, or a list of programs"),
        ("exec:\n  allow:\n    - {ls: 1}\n", ", line 3, column 7: must be a program, or a list"),
        ("exec: any\n", ", line 1, column 7: must be keys with values"),
    ] {
        let shown = Chain(&policy(text).expect_err(text)).to_string();
        let shown = shown.split_once("policy.yaml").expect("names the file").1;
        assert!(shown.starts_with(expected), "{text:?} gave {shown:?}, not {expected:?}");
    }
}

proptest! {
    #[test]
    fn whatever_the_file_holds_the_answer_can_be_shown(text in "\\PC*|[ \\-:\\[\\]{}a-z\n&*!|>'\"#,0-9\u{202e}]*") {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        fs::write(&path, text).unwrap();
        if let Err(error) = Config::load(&path, true) {
            prop_assert!(!Chain(&error).to_string().contains('\n'));
        }
    }
}

#[test]
fn probes_read() {
    let config = load(
        "probes:\n- {icmp: 192.168.1.1}\n- {name: broker, tcp: \"broker.lan:1883\", interval: 30s}\n\
         - {name: api, http: \"http://api.example:8080/health?a=b\"}\n- {name: six, icmp: \"fe80::1\"}\n",
    );
    let probes = config.unwrap().config.probes;
    let shown: Vec<_> =
        probes.iter().map(|probe| (probe.name.as_str(), probe.target.to_string())).collect();
    let expected = [
        ("192.168.1.1", "icmp 192.168.1.1"),
        ("broker", "tcp broker.lan:1883"),
        ("api", "http http://api.example:8080/health?a=b"),
        ("six", "icmp [fe80::1]"),
    ];
    assert_eq!(shown, expected.map(|(name, target)| (name, target.to_owned())));
    assert_eq!(probes[1].interval, Duration::from_secs(30));
    for (text, problem) in [
        ("probes: [{}]", "a probe has exactly one of icmp, tcp and http"),
        ("probes: [{icmp: a, tcp: \"a:1\"}]", "a probe has exactly one of icmp, tcp and http"),
        ("probes: [{tcp: broker}]", "tcp is not a host and port like broker:1883"),
        ("probes: [{icmp: a}, {icmp: a}]", "there is a probe called \"a\" already"),
        ("probes: [{http: \"https://a\"}]", "http is not a URL like http://host:8080/health"),
        ("probes: [{icmp: a, interval: 2h}]", "interval must be between 1s and 1h"),
        (
            "probes: [{icmp: a, name: \"a b\"}]",
            "name must have 1 to 64 letters, digits, dots, _ or -",
        ),
    ] {
        let complaint = complaint(text);
        assert!(complaint.starts_with(", line 1") && complaint.ends_with(problem), "{complaint}");
    }
}
