//! T16: what `POST /discover` can be asked for.

use std::io;
use std::net::TcpListener;

use serde_json::{Value, json};

use super::server_kit::Rig;

/// Whether anybody has connected.
fn was_called(listener: &TcpListener) -> bool {
    match listener.accept() {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            false
        }
    }
}

#[tokio::test]
async fn t16_a_request_names_a_device_and_never_an_address() {
    let rig = Rig::start().await;
    let canary = TcpListener::bind("127.0.0.1:0").unwrap();
    canary.set_nonblocking(true).unwrap();
    let at = canary.local_addr().unwrap();
    let url = format!("http://{at}/");
    for body in [
        json!({"device_id": at}),
        json!({"device_id": url}),
        json!({"device_id": format!("[::ffff:127.0.0.1]:{}", at.port())}),
        json!({"device_id": at.ip()}),
        json!({"device_id": [at]}),
        json!({"device_id": {"address": at}}),
        json!({"address": at}),
        json!({"device_id": "rpi4-001", "address": at}),
        json!({"device_id": "rpi4-001", "addresses": [at]}),
        json!({"device_id": "rpi4-001", "ip": at.ip(), "port": at.port()}),
        json!({"device_id": "rpi4-001", "host": "127.0.0.1", "port": at.port()}),
        json!({"device_id": "rpi4-001", "url": url}),
        json!({"device_id": "rpi4-001", "config": {"address": at}}),
        // This is where the device is to find its server; nobody looks whether one is there.
        json!({"device_id": "rpi4-001", "config": {"server_url": url}}),
    ] {
        let asked: Option<Value> = Some(body.clone());
        let answer = rig.ask("POST", "/api/v1/discover", asked).await;
        assert!(matches!(answer.status.as_u16(), 400 | 404 | 422), "{body}: {}", answer.status);
        assert!(!was_called(&canary), "{body}");
    }
    std::net::TcpStream::connect(at).unwrap();
    assert!(was_called(&canary));
}
