//! A real nginx in front of the server, with the configuration that the documents show: agents, the
//! command line, the console, browsers and curl come through it, and nobody is believed too much.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::console::{Console, XTERM};
use super::{Agent, COME_BACK, Said, Server, ours, program};
use crate::documents::block::blocks;
use crate::lab::{Host, Lab, wait_for};

/// The name that the certificate is for.
const NAME: &str = "fleet.example";
const URL: &str = "https://fleet.example";
/// What the server is told.
const TOLD: [&str; 6] =
    ["--bind", "127.0.0.1", "--public-url", URL, "--trusted-proxy", "127.0.0.1"];

/// An authority and a certificate of its own for the server's name, as files of a host.
struct Certificates {
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificates {
    #[track_caller]
    fn make(host: &Host) -> Self {
        let folder = host.path("ssl");
        fs::create_dir_all(&folder).expect("a folder");
        let openssl = |words: &str| {
            let mut command = host.command("openssl");
            Said::of(command.current_dir(&folder).args(words.split(' '))).exits(0);
        };
        let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9";
        openssl(&format!("{new} -keyout ca.key -out ca.crt -subj /CN=authority"));
        let ca = "-CA ca.crt -CAkey ca.key -addext basicConstraints=critical,CA:FALSE";
        openssl(&format!(
            "{new} {ca} -keyout own.key -out own.crt -subj /CN={NAME} -addext \
             subjectAltName=DNS:{NAME}"
        ));
        let [authority, certificate, key] =
            ["ca.crt", "own.crt", "own.key"].map(|name| folder.join(name));
        Self { authority, certificate, key }
    }
}

/// nginx on a host.
struct Nginx<'a> {
    host: &'a Host,
    pid: u32,
}

impl<'a> Nginx<'a> {
    /// Starts it with the configuration in the documents, whose files are elsewhere here.
    #[track_caller]
    fn start(host: &'a Host, certificates: &Certificates) -> Self {
        let folder = host.path("nginx");
        fs::create_dir_all(&folder).expect("a folder");
        let site = documented()
            .replace("/etc/ssl/fleet.example.crt", &certificates.certificate.to_string_lossy())
            .replace("/etc/ssl/fleet.example.key", &certificates.key.to_string_lossy());
        let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {};", folder.join(name).display()))
            .join("\n");
        let text = format!(
            "daemon off;\nuser root;\npid {}/pid;\nerror_log stderr;\n\
             events {{ worker_connections 4096; }}\nhttp {{\naccess_log off;\n{folders}\n{site}\n}}\n",
            folder.display()
        );
        let config = folder.join("nginx.conf");
        fs::write(&config, text).expect("a configuration");
        let mut command = host.command("nginx");
        command.arg("-e").arg("stderr").arg("-c").arg(&config);
        Self { host, pid: host.start("nginx", &mut command) }
    }

    /// Ends it at once, with those of its processes that do the work.
    #[track_caller]
    fn stop(&self) {
        super::terminate(self.host, self.pid);
    }
}

/// The configuration in the documents.
#[track_caller]
fn documented() -> String {
    let blocks = blocks("docs/network.md");
    blocks.iter().find(|block| block.language == "nginx").expect("one for nginx").text()
}

/// The operator's programs on another host, through the proxy.
struct Laptop<'a> {
    host: &'a Host,
    key_file: PathBuf,
    authority: Option<PathBuf>,
}

impl Laptop<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = ours(self.host, "fleets");
        command.args(args).env("FLEETD_SERVER", URL);
        command.env("FLEETD_API_KEY_FILE", &self.key_file);
        if let Some(authority) = &self.authority {
            command.env("FLEETD_CA_FILE", authority);
        }
        command
    }

    fn fleets(&self, args: &[&str]) -> Said {
        Said::of(&mut self.command(args))
    }

    /// What curl says of a path: the status, or the answer with its head.
    #[track_caller]
    fn curl(&self, args: &[&str], path: &str) -> String {
        let mut command = self.host.command("curl");
        command.args(["-s", "-m10", "--noproxy", "*", "--cacert"]);
        command.arg(self.authority.as_ref().expect("an authority"));
        Said::of(command.args(args).arg(format!("{URL}{path}"))).exits(0).stdout
    }

    #[track_caller]
    fn shows_online(&self, id: &str) {
        wait_for(&format!("{id} to be online"), COME_BACK, || {
            let said = self.fleets(&["devices", "--filter", "status=online", "-o", "name"]);
            said.stdout.lines().any(|line| line == id).then_some(())
        });
    }
}

#[test]
fn everything_works_through_nginx_as_the_documents_configure_it() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, cam, desktop] = ["desk", "cam", "laptop"].map(|name| lab.host(name, &[&lan]));
    let certificates = Certificates::make(&desk);
    for host in [&cam, &desktop] {
        host.knows(NAME, desk.address());
    }
    let server = Server::start_told(&desk, &TOLD);
    let nginx = Nginx::start(&desk, &certificates);
    let authority = Some(certificates.authority.clone());
    let laptop = Laptop { host: &desktop, key_file: server.key_file(), authority };
    wait_for("nginx to answer", COME_BACK, || {
        (laptop.fleets(&["devices"]).code == Some(0)).then_some(())
    });

    // A device is brought in from another host, and comes by the name that the server told it.
    let mut agent = Agent::idle(&cam, "cam");
    let variable = format!("FLEETD_CA_FILE={}", certificates.authority.display());
    agent.wrapper = vec!["env".to_owned(), variable, program("fleetd")];
    agent.start_again();
    wait_for("the device to be configured", COME_BACK, || {
        let args = ["configure", "--auto", "--device", "cam", "--timeout", "5s"];
        (laptop.fleets(&args).code == Some(0)).then_some(())
    });
    laptop.shows_online("cam");
    assert!(desk.log(&server.log_name()).contains("a device has connected"));
    // Both ways: a command whose outcome is waited for, and lines of its log as they come.
    laptop.fleets(&["command", "run", "cam", "collect", "--wait", "30s"]).exits(0);
    laptop.fleets(&["logs", "cam", "-n", "3"]).exits(0);
    // The stream, in the console.
    let environment = laptop.command(&[]);
    let variables: Vec<(&str, &str)> = environment
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?)))
        .filter(|(name, _)| name.starts_with("FLEETD_"))
        .chain(XTERM)
        .collect();
    let command = desktop.command(&program("fleet-tui"));
    let console = Console::start_as(&server, &command, &variables, (100, 30));
    console.waits("the device on the screen", |shown| super::console::text(shown).contains("cam"));
    console.quit();

    // Third parties: a page with cookies that are for TLS only, and a body of some size.
    let page = laptop.curl(&["-i"], "/sign-in");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("set-cookie: __Host-"), "{page}");
    assert!(page.to_lowercase().contains("content-security-policy: default-src 'none'"), "{page}");
    let key = fs::read_to_string(server.key_file()).expect("the admin key");
    let bearer = format!("Authorization: Bearer {}", key.trim());
    let body = desktop.path("samples.json");
    let sample = r#"{"device_id":"cam","metric_name":"m","value":1}"#;
    fs::write(&body, format!("[{}]", vec![sample; 10_000].join(","))).expect("a file");
    let sent = format!("@{}", body.display());
    let json = ["-H", "Content-Type: application/json", "-H", &bearer, "--data-binary", &sent];
    let said = laptop.curl(&[&["-w", "%{http_code}"][..], &json].concat(), "/api/v1/telemetry");
    assert!(said.ends_with("201"), "{said}");

    // T30: whoever guesses is one address, whatever the header says.
    let guess = |number: usize| {
        let from = format!("X-Forwarded-For: 192.0.2.{number}");
        let args = ["-H", "Authorization: Bearer wrong", "-H", &from, "-w", "%{http_code}"];
        laptop.curl(&[&args[..], &["-o", "/dev/null"]].concat(), "/api/v1/devices")
    };
    let tried = (0..30).filter(|number| guess(*number) == "401").count();
    assert_eq!(tried, 10);
    // A neighbour has guesses of its own, and the device is none the worse for it.
    let mut neighbour = cam.command("curl");
    neighbour.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--noproxy", "*", "--cacert"]);
    neighbour.arg(&certificates.authority).args(["-H", "Authorization: Bearer wrong"]);
    let said = Said::of(neighbour.arg(format!("{URL}/api/v1/devices")));
    assert_eq!(said.stdout, "401");

    // The proxy goes and comes back.
    nginx.stop();
    laptop.fleets(&["devices"]).exits(7);
    let _nginx = Nginx::start(&desk, &certificates);
    laptop.shows_online("cam");
}

#[test]
fn a_proxy_is_not_believed_without_an_authority_nor_the_server_behind_it_without_a_proof() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, desktop] = ["desk", "laptop"].map(|name| lab.host(name, &[&lan]));
    let certificates = Certificates::make(&desk);
    desktop.knows(NAME, desk.address());
    // It was not told of its proxy.
    let server = Server::start_told(&desk, &TOLD[..4]);
    let _nginx = Nginx::start(&desk, &certificates);
    let authority = Some(certificates.authority.clone());
    let laptop = Laptop { host: &desktop, key_file: server.key_file(), authority };
    wait_for("nginx to answer", COME_BACK, || {
        let said = laptop.fleets(&["devices"]);
        said.stderr.contains("did not prove").then_some(())
    });
    let identity = server.identity();
    laptop.fleets(&["devices"]).exits(7).explains(&[&identity, "--trusted-proxy"]);

    // The system's authorities know nothing of this one.
    let laptop = Laptop { authority: None, ..laptop };
    let said = laptop.fleets(&["devices"]).exits(7);
    said.explains(&[&identity, "certificate of SHA-256", "no authority", "--ca-file"]);
    // Where a URL does not say https, a proxy is not even asked for.
    let mut plain = laptop.command(&["devices"]);
    let said = Said::of(plain.env("FLEETD_SERVER", format!("http://{NAME}:443"))).exits(7);
    said.explains(&[&identity, "certificate of SHA-256", "https://"]);
    let mut missing = laptop.command(&["devices", "--ca-file", "/nowhere/ca.pem"]);
    Said::of(&mut missing).exits(78).explains(&["--ca-file", "/nowhere/ca.pem"]);
}
