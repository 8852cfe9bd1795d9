//! Curves, as programs ask for them.

use fleet_core::operator::client::{Client, EventQuery, SeriesQuery};
use fleet_core::time::Timestamp;
use serde_json::json;

use crate::page_kit::{Browser, between, encoded, text};
use crate::server_kit::Rig;

#[tokio::test]
async fn curves_are_drawn_from_what_was_measured() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("a", 1).await;
    let post = |second: u32, name: &str, labels: serde_json::Value, value: f64| {
        json!({
            "device_id": "a", "metric_name": name, "metadata": labels, "value": value,
            "timestamp": format!("2024-01-15T10:29:{second:02}Z"),
        })
    };
    let samples = json!([
        post(1, "cpu", json!({}), 1.0),
        post(4, "cpu", json!({}), 4.0),
        post(31, "cpu", json!({}), 7.0),
        post(31, "io", json!({"disk": "sda"}), 0.5),
        post(31, "other", json!({}), 0.5),
    ]);
    rig.ask("POST", "/api/v1/telemetry", Some(samples)).await.expect(201);
    let path = "/api/v1/telemetry/series?device_id=a&metrics=io,cpu,cpu,none";
    let range = "from=2024-01-15T10%3A29%3A03Z&to=2024-01-15T10%3A29%3A40Z&step=10s";
    let drawn = rig.ask("GET", &format!("{path}&{range}"), None).await.expect(200);
    assert_eq!(
        drawn,
        json!({
            "from": "2024-01-15T10:29:00Z",
            "step_millis": 10_000,
            "steps": 5,
            "series": [
                {"metric": "io", "labels": {"disk": "sda"}, "points": [[3, 0.5, 0.5, 0.5]]},
                {"metric": "cpu", "points": [[0, 2.5, 1.0, 4.0], [3, 7.0, 7.0, 7.0]]},
            ],
        })
    );
    // The last five minutes, a second a step.
    let last = rig.ask("GET", path, None).await.expect(200);
    assert_eq!((&last["from"], &last["steps"]), (&json!("2024-01-15T10:25:00Z"), &json!(301)));
    assert_eq!(last["series"][1]["points"].as_array().unwrap().len(), 3);
    let bad_metrics = (0..33).map(|n| format!("m{n}")).collect::<Vec<_>>().join(",");
    for (bad, field) in [
        ("metrics=m&step=0", "step"),
        ("metrics=m&step=soon", "step"),
        ("metrics=m&step=1s&from=2024-01-15T00%3A00%3A00Z", "step"),
        ("metrics=m&from=2025-01-15T10%3A30%3A00Z", "from"),
        ("metrics=a%20b", "metrics"),
        ("metrics=a,", "metrics"),
        ("step=1s", "metrics"),
        (&format!("metrics={bad_metrics}"), "metrics"),
    ] {
        let path = format!("/api/v1/telemetry/series?device_id=a&{bad}");
        let detail = rig.ask("GET", &path, None).await.problem(422);
        assert!(detail.starts_with(field), "{bad}: {detail}");
    }
    let path = "/api/v1/telemetry/series?device_id=nobody&metrics=m";
    rig.ask("GET", path, None).await.problem(404);
}

#[tokio::test]
async fn the_client_asks_for_curves_and_events() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("a", 1).await;
    agent.report(1, &[1, 2], 5.0).await;
    let client = Client::new(rig.server().url().clone(), rig.admin().parse().unwrap()).unwrap();
    let query = SeriesQuery {
        device_id: "a".to_owned(),
        metrics: vec!["cpu_usage".to_owned(), "none".to_owned()],
        step: Some(std::time::Duration::from_millis(1_500)),
        to: Some("2024-01-15T10:30:30Z".parse().unwrap()),
        from: Some("2024-01-15T10:29:30Z".parse().unwrap()),
    };
    let reply = client.series(&query).await.unwrap();
    assert_eq!((reply.step_millis, reply.left_out), (1_500, 0));
    assert_eq!(reply.series.len(), 1);
    assert_eq!(reply.series[0].points.len(), 1);
    let query = EventQuery {
        device_id: Some("a".to_owned()),
        kind: Some("device,config".to_owned()),
        since: Some("2024-01-15T10:30:00Z".parse().unwrap()),
        until: Some("2024-01-15T10:30:00Z".parse().unwrap()),
        before: Some(100),
        limit: Some(10),
    };
    let events = client.event_list(&query).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].kind.word(), "device.enrolled");
    assert_eq!(client.event_list(&EventQuery::default()).await.unwrap().len(), 3);
}

/// What the page draws for a week, and the console: of older values only minutes are left.
#[tokio::test]
async fn a_week_is_drawn_from_what_was_rolled_up() {
    const FIVE_MINUTES: i64 = 300_000;
    let rig = Rig::start().await;
    let _agent = rig.enrolled("a", 1).await;
    let now: Timestamp = "2024-01-15T10:30:00Z".parse().unwrap();
    // Up and down, so that whatever is drawn together has a band around its mean.
    let sample = |n: i64| {
        let at = Timestamp::from_millis(now.millis() - n * FIVE_MINUTES);
        let value = [20, 60][n.unsigned_abs() as usize % 2];
        json!({"device_id": "a", "metric_name": "cpu_usage", "value": value, "timestamp": at})
    };
    let week = (0..7 * 24 * 12).map(sample).collect::<Vec<_>>();
    rig.ask("POST", "/api/v1/telemetry", Some(json!(week))).await.expect(201);

    // A range of the console with its step, of which tier it is drawn, and the points there are.
    let asked = async |secs: i64, step: &str| {
        let from = Timestamp::from_millis(now.millis() - secs * 1_000).to_string();
        let path = format!(
            "/api/v1/telemetry/series?device_id=a&metrics=cpu_usage&from={}&to={}&step={step}",
            encoded(&from),
            encoded(&now.to_string())
        );
        let answer = rig.ask("GET", &path, None).await;
        let points = answer.expect(200)["series"][0]["points"].clone();
        let points: Vec<(u32, f64, f64, f64)> = serde_json::from_value(points).unwrap();
        (answer.headers["fleetd-resolution"].to_str().unwrap().to_owned(), points)
    };
    let (day, week) = (86_400, 7 * 86_400);
    let (resolution, before) = asked(week, "30m").await;
    assert_eq!(resolution, "raw");
    let rows = rig.ask("POST", "/api/v1/db/prune", None).await.expect(200)["rows"].clone();
    assert!(rows.as_u64().unwrap() > 4 * 24 * 12, "about five of seven days go: {rows}");

    let (resolution, points) = asked(week, "30m").await;
    assert_eq!(resolution, "1m");
    assert_eq!(points, before, "and nobody sees it");
    assert!(points.len() >= 7 * 48, "{}", points.len());
    // The first and the last step are not whole.
    let whole = &points[1..points.len() - 1];
    assert!(whole.iter().all(|(_, mean, min, max)| (*mean, *min, *max) == (40.0, 20.0, 60.0)));
    assert_eq!(asked(day, "1m").await.0, "raw", "a day is there as it was measured");
    let raw = "/api/v1/telemetry/metrics?device_id=a&metric=cpu_usage&limit=10000";
    let raw = rig.ask("GET", raw, None).await.expect(200).as_array().unwrap().len();
    assert!(raw < 2 * 24 * 12 + 13, "{raw} raw values are left");

    let mut browser = Browser::signed_in(&rig, &rig.admin()).await;
    let page = text(&browser.get("/devices/a?range=7d").await);
    assert!(page.contains("between 20"), "{page}");
    let [band, line] = ["band", "line"].map(|class| {
        let path = between(&page, &format!("<path class=\"{class}\" d=\""), "\"");
        let places = path.trim_end_matches('Z').split(['M', 'L']).skip(1);
        let y = |place: &str| place.split_once(' ').unwrap().1.to_owned();
        places.map(y).collect::<Vec<_>>()
    });
    // Steps of two hours, each from 60 % above down to 20 % below, with its mean in the middle.
    assert!(line.len() >= 7 * 12 && band.len() == 2 * line.len(), "{line:?}");
    let inner = |path: &[String]| path[1..path.len() - 1].to_vec();
    assert!(inner(&line).iter().all(|y| y == "60.0"), "{line:?}");
    let (above, below) = band.split_at(line.len());
    assert!(inner(above).iter().all(|y| y == "40.0"), "{above:?}");
    assert!(inner(below).iter().all(|y| y == "80.0"), "{below:?}");
}
