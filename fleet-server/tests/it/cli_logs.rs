//! `fleets logs` as an operator uses it, with a device that says what a test wants.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use fleet_core::limits::LOG_LINES_MAX;
use fleet_core::net::shutdown::Tasks;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::cli_kit::Desk;
use crate::logs::{asked, connected, line, says};
use crate::server_kit::{Agent, wait_for};

/// An address that stays while the server behind it begins anew under another one.
struct Door {
    url: String,
    behind: Arc<Mutex<SocketAddr>>,
    _tasks: Tasks,
}

impl Door {
    async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let behind = Arc::new(Mutex::new(server));
        let (tasks, target) = (Tasks::default(), behind.clone());
        let passing = tasks.clone();
        tasks.spawn("door", async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let server = *target.lock().unwrap();
                passing.spawn("passing", async move {
                    if let Ok(mut server) = TcpStream::connect(server).await {
                        // Either side leaves when it likes.
                        let _ = copy_bidirectional(&mut stream, &mut server).await;
                    }
                });
            }
        });
        Self { url, behind, _tasks: tasks }
    }
}

/// What a stream has brought so far.
fn gathered(stream: impl Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let gathered = lines.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line);
        }
    });
    gathered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_stays_while_the_server_begins_anew() {
    let mut desk = Desk::new().await;
    let mut agent = connected(&desk.rig).await;
    let door = Door::before(desk.rig.address()).await;
    let key = format!("@{}", desk.key_file());
    let follow = ["logs", "a", "-f", "-n", "5", "-o", "name", "--server", &door.url];
    let mut command = desk.bare_command(&[&follow[..], &["--api-key", &key]].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let out = gathered(child.stdout.take().unwrap());
    let err = gathered(child.stderr.take().unwrap());
    let told = async |text: &str| {
        wait_for(text, async || out.lock().unwrap().iter().any(|line| line == text)).await;
    };
    let ask = asked(&mut agent).await;
    assert_eq!((ask.since_millis, ask.past), (None, 5));
    says(&mut agent, ask.ask, vec![line(1, "one"), line(2, "two")], None).await;
    told("two").await;
    let lives = [
        (2, vec![line(2, "two"), line(2, "too"), line(3, "three")]),
        // So many were written meanwhile that the last one is not among them.
        (3, vec![line(9, "nine")]),
    ];
    for (since, lines) in lives {
        drop(agent);
        desk.restart(async |_| {}).await;
        *door.behind.lock().unwrap() = desk.rig.address();
        agent = Agent::dial(&desk.rig, "a", 1, None).await;
        let ask = asked(&mut agent).await;
        assert_eq!((ask.since_millis, ask.past), (Some(since), LOG_LINES_MAX as u32));
        let last = lines.last().unwrap().text.clone();
        says(&mut agent, ask.ask, lines, None).await;
        told(&last).await;
    }
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(*out.lock().unwrap(), ["one", "two", "too", "three", "nine"]);
    let err = err.lock().unwrap();
    let count = |part: &str| err.iter().filter(|line| line.contains(part)).count();
    assert_eq!(count("the server is away"), 2, "{err:?}");
    assert_eq!(count("the server is back; lines go on"), 2, "{err:?}");
    assert_eq!(count("lines may be missing here"), 1, "{err:?}");
}
