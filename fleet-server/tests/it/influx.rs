//! Influx line protocol, as programs that know InfluxDB send it.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::server_kit::{Answer, Rig, send};

const V1: &str = "/write";
const V2: &str = "/api/v2/write";
/// The rig's time.
const NOW: i64 = 1_705_314_600;

async fn write(rig: &Rig, path: &str, authorization: &str, lines: &str) -> Answer {
    let headers = [("authorization", authorization.to_owned())];
    let from = Ipv4Addr::LOCALHOST.into();
    send(rig.address(), from, "POST", path, &headers, lines.as_bytes().to_vec()).await
}

fn token(key: &str) -> String {
    format!("Token {key}")
}

/// Values and labels of a metric, newest first.
async fn stored(rig: &Rig, device: &str, metric: &str) -> Vec<(Value, Value)> {
    let path = format!("/api/v1/telemetry/metrics?device_id={device}&metric={metric}");
    let points = rig.ask("GET", &path, None).await.expect(200);
    let point = |point: &Value| {
        let labels = point["metadata"].as_str().unwrap();
        (point["value"].clone(), serde_json::from_str(labels).unwrap())
    };
    points.as_array().unwrap().iter().map(point).collect()
}

#[tokio::test]
async fn lines_become_metrics_of_devices_that_are_made_for_them() {
    let rig = Rig::start().await;
    let admin = token(&rig.admin());
    let lines = format!(
        "cpu,host=Web01,cpu=cpu0 usage_idle=98.5,note=\"text\" {NOW}000000000\n\
         cpu,host=Web01,cpu=cpu1 usage_idle=97.5 {NOW}000000000\n\
         # a comment\n\
         disk,device=sda1,host=Web01 free=12i,read\\ only=f\n\
         temperature,device=sensor-7 value=21.5\n\
         m,device_id=gate-1,host=Web01 up=t\n"
    );
    let answer = write(&rig, &format!("{V2}?org=o&bucket=b"), &admin, &lines).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0), "{answer:?}");
    assert_eq!(answer.headers["fleetd-skipped-strings"], "1");
    let idle = stored(&rig, "web01", "cpu_usage_idle").await;
    assert!(idle.contains(&(json!(98.5), json!({"cpu": "cpu0"}))), "{idle:?}");
    assert!(idle.contains(&(json!(97.5), json!({"cpu": "cpu1"}))), "{idle:?}");
    assert_eq!(
        stored(&rig, "web01", "disk_free").await,
        [(json!(12.0), json!({"device": "sda1"}))]
    );
    assert_eq!(stored(&rig, "web01", "disk_read_only").await[0].0, 0.0);
    assert_eq!(stored(&rig, "sensor-7", "temperature").await, [(json!(21.5), json!({}))]);
    assert_eq!(stored(&rig, "gate-1", "m_up").await, [(json!(1.0), json!({"host": "Web01"}))]);

    let devices = rig.ask("GET", "/api/v1/devices", None).await.expect(200);
    let devices: Vec<_> = devices.as_array().unwrap().iter().collect();
    let ids: Vec<_> = devices.iter().map(|device| device["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["gate-1", "sensor-7", "web01"]);
    for device in &devices {
        assert_eq!((&device["type"], &device["status"]), (&json!("other"), &json!("online")));
    }
    assert_eq!(devices[1]["latest"]["metrics"], json!({"temperature": 21.5}));
    let path = "/api/v1/events?kind=device.enrolled";
    let events = rig.ask("GET", path, None).await.expect(200);
    let events = events.as_array().unwrap();
    assert_eq!(events.len(), 3);
    assert!(events[0]["actor"].as_str().unwrap().starts_with("operator:"), "{events:?}");
    assert!(events[0]["text"].as_str().unwrap().starts_with("made for what the key "));

    // The same once more makes nothing new.
    assert_eq!(write(&rig, V1, &admin, &lines).await.status, 204);
    assert_eq!(rig.ask("GET", path, None).await.expect(200).as_array().unwrap().len(), 3);
}
