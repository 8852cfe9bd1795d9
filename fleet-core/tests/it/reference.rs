//! The reference's JSON bodies, verbatim, through the types that the server reads and writes.

use fleet_core::api::{ConfigDocument, ConfigUpdate, DeviceUpdate, DiscoverRequest, TelemetryPost};
use serde_json::json;

#[test]
fn submit_telemetry() {
    let body = r#"{
  "device_id": "rpi4-001",
  "timestamp": "2024-01-15T10:30:00Z",
  "metric_name": "cpu_usage",
  "value": 45.2,
  "metadata": "{\"cores\": 4}"
}"#;
    let post: TelemetryPost = serde_json::from_str(body).unwrap();
    assert_eq!(post.device_id, "rpi4-001");
    assert_eq!(post.timestamp.unwrap().to_string(), "2024-01-15T10:30:00Z");
    assert_eq!((post.metric_name.as_str(), post.value), ("cpu_usage", 45.2));
    assert_eq!(post.metadata, Some(json!({"cores": 4})));
}

#[test]
fn update_device() {
    let body = r#"{
  "metadata": {
    "location": "Lab A",
    "owner": "Engineering"
  }
}"#;
    let update: DeviceUpdate = serde_json::from_str(body).unwrap();
    assert_eq!(update.metadata, Some(json!({"location": "Lab A", "owner": "Engineering"})));
    let text: DeviceUpdate = serde_json::from_str(r#"{"metadata": "{\"owner\": null}"}"#).unwrap();
    assert_eq!(text.metadata, Some(json!({"owner": null})));
}

#[test]
fn update_configuration() {
    let body = r#"{
  "server_url": "http://new-server:8080",
  "api_key": "new-key",
  "config": "{\"telemetry_interval\": 30}"
}"#;
    let update: ConfigUpdate = serde_json::from_str(body).unwrap();
    assert_eq!(update.server_url.as_deref(), Some("http://new-server:8080"));
    let document = ConfigDocument::from_json(&update.config.unwrap()).unwrap();
    assert_eq!(document.telemetry.interval.unwrap().as_secs(), 30);
}

#[test]
fn configure_discovered_device() {
    let body = r#"{
  "device_id": "rpi4-001",
  "config": {
    "server_url": "http://fleet-server:8080",
    "api_key": "device-key"
  }
}"#;
    let request: DiscoverRequest = serde_json::from_str(body).unwrap();
    assert_eq!(request.device_id, "rpi4-001");
    assert_eq!(request.config.server_url.as_deref(), Some("http://fleet-server:8080"));
}

#[test]
fn a_string_without_json_and_an_unknown_field_are_named() {
    let error = serde_json::from_str::<ConfigUpdate>(r#"{"config": "{interval"}"#).unwrap_err();
    assert!(error.to_string().contains("a string that holds no JSON"), "{error}");
    let error = serde_json::from_str::<DeviceUpdate>(r#"{"metdata": {}}"#).unwrap_err();
    assert!(error.to_string().contains("unknown field `metdata`"), "{error}");
}
