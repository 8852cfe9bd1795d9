//! Starting: what is made, what is refused, and what is still there the next time.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fleet_server::app::Server;
use fleet_server::store::RedbStore;

use crate::server_kit::{Rig, key_id};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// What a start says that must not succeed.
#[track_caller]
fn refusal(started: Result<Server, fleet_server::app::StartError>) -> (String, bool) {
    match started {
        Ok(_) => panic!("the server started"),
        Err(error) => {
            let text = fleet_core::Chain(&error).to_string();
            assert!(!text.contains('\n'), "one sentence: {text}");
            (text, error.is_configuration())
        }
    }
}

#[tokio::test]
async fn an_empty_folder_becomes_a_server() {
    let rig = Rig::start().await;
    let folder = rig.folder.path().join("data");
    assert_eq!(mode(&folder), 0o700);
    for name in ["fleet.db", "srv.key", "secret.key", "admin.key"] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
    assert!(rig.admin().ends_with(&format!("@{}", rig.server().identity())));
    assert!(rig.server().notes().is_empty());
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let mut rig = Rig::start().await;
    let identity = rig.server().identity();
    let mut agent = rig.enrolled("a", 1).await;
    agent.report(1, &[1, 2], 5.0).await;
    let wish = serde_json::json!({"config": {"telemetry_interval": 30}});
    rig.ask("POST", "/api/v1/config?device_id=a", Some(wish)).await.expect(200);
    let mut before = rig.ask("GET", "/api/v1/devices", None).await.expect(200);
    // What was sent is known since the start only, and is sent again.
    before[0]["config_state"] = "waiting".into();
    let admin = rig.admin();
    rig.restart().await;
    assert_eq!((rig.server().identity(), rig.admin()), (identity, admin));
    assert_eq!(rig.ask("GET", "/api/v1/devices", None).await.expect(200), before);
    let path = "/api/v1/telemetry/metrics?device_id=a&metric=cpu_usage";
    assert_eq!(rig.ask("GET", path, None).await.expect(200).as_array().unwrap().len(), 2);
    assert_eq!(crate::server_kit::Agent::dial(&rig, "a", 1, None).await.device_id(), "a");
}

#[tokio::test]
async fn a_fleet_that_is_gone_is_not_begun_anew_in_silence() {
    let mut rig = Rig::start().await;
    let identity = rig.server().identity();
    rig.stop().await;
    std::fs::remove_file(rig.database()).unwrap();
    rig.restart().await;
    assert_eq!(rig.server().identity(), identity);
    let notes = rig.server().notes();
    assert!(matches!(notes, [note] if note.contains("empty fleet")), "{notes:?}");
    rig.restart().await;
    assert!(rig.server().notes().is_empty());
}

#[tokio::test]
async fn a_wrong_secret_changes_nothing() {
    let mut rig = Rig::start().await;
    rig.stop().await;
    let bytes = std::fs::read(rig.database()).unwrap();
    let mut config = rig.config();
    config.secret_key = Some("your-secret-key".into());
    let (text, is_configuration) = refusal(rig.launch(config).await);
    assert!(is_configuration && text.contains("secret key"), "{text}");
    assert!(!text.contains("your-secret-key"));
    assert_eq!(std::fs::read(rig.database()).unwrap(), bytes);
    std::fs::remove_file(rig.folder.path().join("data/secret.key")).unwrap();
    let (text, is_configuration) = refusal(rig.launch(rig.config()).await);
    assert!(is_configuration && text.contains("secret.key is missing"), "{text}");
}

#[tokio::test]
async fn a_short_secret_works_with_a_warning() {
    let mut rig = Rig::start().await;
    rig.stop().await;
    std::fs::remove_dir_all(rig.folder.path().join("data")).unwrap();
    let mut config = rig.config();
    config.secret_key = Some("hunter2".into());
    let first = rig.launch(config.clone()).await.unwrap();
    let identity = first.identity();
    assert!(first.notes().iter().any(|note| note.contains("guessed")), "{:?}", first.notes());
    assert!(!rig.folder.path().join("data/secret.key").exists());
    first.stop().await;
    let second = rig.launch(config).await.unwrap();
    assert_eq!(second.identity(), identity);
    second.stop().await;
}

#[tokio::test]
async fn a_key_file_that_others_can_read_is_told() {
    let mut rig = Rig::start().await;
    let path = rig.folder.path().join("data/admin.key");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    rig.restart().await;
    let notes = rig.server().notes();
    let told = format!("chmod 600 {}", path.display());
    assert!(matches!(notes, [note] if note.ends_with(&told)), "{notes:?}");
}

#[tokio::test]
async fn a_missing_admin_key_is_made_anew_and_the_old_one_ends() {
    let mut rig = Rig::start().await;
    let old = rig.admin();
    std::fs::remove_file(rig.server().admin_path()).unwrap();
    rig.restart().await;
    assert!(rig.server().notes()[0].contains("admin.key was missing"));
    assert_ne!(rig.admin(), old);
    let path = "/api/v1/devices";
    let detail = rig.ask_with("GET", path, Some(&old), None).await.problem(401);
    assert!(detail.contains("revoked"), "{detail}");
    rig.ask("GET", path, None).await.expect(200);
    // The last operator key stays: nobody could make another.
    let path = format!("/api/v1/keys/{}", key_id(&rig.admin()));
    let detail = rig.ask("DELETE", &path, None).await.problem(409);
    assert!(detail.contains("create another first"), "{detail}");
    let hour = rig
        .key(serde_json::json!({"kind": "operator", "role": "admin", "expires_in_secs": 3600}))
        .await;
    rig.clock.advance(std::time::Duration::from_secs(3600));
    rig.ask("DELETE", &path, None).await.problem(409);
    rig.ask("DELETE", &format!("/api/v1/keys/{}", key_id(&hour)), None).await.expect(200);
    // An operator who ended the key while there was another meant it.
    rig.key(serde_json::json!({"kind": "operator", "role": "admin"})).await;
    rig.ask("DELETE", &format!("/api/v1/keys/{}", key_id(&rig.admin())), None).await.expect(200);
    rig.restart().await;
    assert!(rig.server().notes()[0].contains("was revoked"), "{:?}", rig.server().notes());
}

#[tokio::test]
async fn each_obstacle_is_one_sentence() {
    let mut rig = Rig::start().await;
    let mut config = rig.config();
    config.port = rig.address().port();
    config.database = rig.folder.path().join("second/fleet.db");
    let (text, is_configuration) = refusal(rig.launch(config).await);
    assert!(!is_configuration && text.contains("is in use"), "{text}");

    let (text, is_configuration) = refusal(rig.launch(rig.config()).await);
    assert!(!is_configuration && text.contains("another fleets server"), "{text}");

    let mut config = rig.config();
    config.database = rig.folder.path().join("data/other.db");
    let (text, is_configuration) = refusal(rig.launch(config).await);
    assert!(is_configuration && text.contains("a folder of its own"), "{text}");

    rig.stop().await;
    std::fs::write(rig.database(), b"garbage").unwrap();
    let (text, is_configuration) = refusal(rig.launch(rig.config()).await);
    assert!(!is_configuration && text.contains("fleet.db"), "{text}");

    std::fs::remove_file(rig.database()).unwrap();
    let srv = rig.folder.path().join("data/srv.key");
    let kept = std::fs::read(&srv).unwrap();
    std::fs::write(&srv, b"garbage").unwrap();
    let (text, is_configuration) = refusal(rig.launch(rig.config()).await);
    assert!(is_configuration && text.contains("holds no server key"), "{text}");

    // A database that remembers another server.
    let other = Rig::start().await;
    std::fs::write(&srv, kept).unwrap();
    let theirs = other.folder.path().join("data/fleet.db");
    std::fs::copy(theirs, rig.database()).unwrap();
    let (text, is_configuration) = refusal(rig.launch(rig.config()).await);
    assert!(is_configuration && text.contains("belongs to the server"), "{text}");
    std::fs::remove_file(&srv).unwrap();
    let (text, _) = refusal(rig.launch(rig.config()).await);
    assert!(text.contains("srv.key is missing"), "{text}");
    drop(RedbStore::open(&rig.database()).unwrap());
}
