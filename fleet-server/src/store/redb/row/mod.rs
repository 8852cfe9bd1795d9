//! The rows on disk, and how each becomes the thing that it stores.
//!
//! Rows outlive releases: a tag is never reused, and a layout that changes gets a new version
//! which a migration writes. Texts that were checked when they came in are checked again when they
//! come out.

mod audit;
mod batch;
mod command;
mod config;
mod deleted;
mod device;
mod double;
mod event;
mod grant;
mod key;
mod meta;
mod preauth;
mod series;
mod session;

use bincode::{Decode, Encode};
use fleet_core::codec::{CodecError, Coded};
use fleet_core::id::DeviceId;

pub(super) use self::audit::{AuditOpenRow, AuditPointRow, AuditRow};
pub(super) use self::batch::{BatchRow, MemberRow, PlaceRow};
pub(super) use self::command::{CommandOutputRow, CommandRow};
pub(super) use self::config::{ConfigRow, OwnConfigRow};
pub(super) use self::deleted::DeletedRow;
pub(super) use self::device::{DeviceRow, SeenRow, device_rows};
pub(super) use self::double::DoubleRow;
pub(super) use self::event::EventRow;
pub(super) use self::grant::GrantRow;
pub(super) use self::key::{FirstKeyRow, KeyOriginRow, KeyRow};
pub(super) use self::meta::{GroupRow, SchemaRow, ServerKeyRow};
pub(super) use self::preauth::PreauthRow;
pub(super) use self::series::{ChunkRow, HeadRow, SegmentRow, SeriesRow, TelemetryRow};
pub(super) use self::session::SessionRow;

macro_rules! coded {
    ($($row:ty = $tag:literal),* $(,)?) => {
        $(impl Coded for $row {
            const TAG: u8 = $tag;
            const VERSION: u8 = 1;
        })*
    };
}

coded! {
    SchemaRow = 32,
    ServerKeyRow = 33,
    DeviceRow = 34,
    SeenRow = 35,
    UidRow = 36,
    FirstKeyRow = 37,
    GrantRow = 38,
    ConfigRow = 39,
    EventRow = 42,
    SessionRow = 43,
    TelemetryRow = 45,
    SeriesRow = 46,
    ChunkRow = 47,
    SegmentRow = 48,
    HeadRow = 49,
    CommandRow = 50,
    CommandOutputRow = 51,
    BatchRow = 52,
    MemberRow = 53,
    PlaceRow = 54,
    DeletedRow = 58,
    OwnConfigRow = 60,
    DoubleRow = 62,
    PreauthRow = 63,
    KeyOriginRow = 70,
    AuditRow = 90,
    AuditOpenRow = 91,
    AuditPointRow = 92,
    GroupRow = 96,
}

#[derive(Debug, PartialEq, Encode, Decode)]
pub(super) struct UidRow {
    pub(super) uid: [u8; 16],
}

/// A fingerprint that a table's key names, for the checks below.
#[cfg(any(test, fuzzing))]
fn some_fingerprint() -> fleet_core::identity::Fingerprint {
    fleet_core::identity::PublicKey::from_bytes([2; 32]).fingerprint()
}

fn device_id(text: String) -> Result<DeviceId, CodecError> {
    DeviceId::try_from(text).map_err(|_| CodecError::Malformed)
}

/// The door of the fuzz target `rows`: any bytes are no row, or one that is read as itself again,
/// and of which something can be made or not.
#[cfg(any(test, fuzzing))]
pub(crate) fn check_row(bytes: &[u8]) {
    use fleet_core::codec::check;
    use fleet_core::id::Uid;

    let uid = Uid::from_bytes([1; 16]);
    check::<SchemaRow>(bytes);
    check::<ServerKeyRow>(bytes);
    check::<GroupRow>(bytes);
    check::<UidRow>(bytes);
    check::<TelemetryRow>(bytes).map(|row| row.floors());
    check::<SeriesRow>(bytes);
    check::<SeenRow>(bytes);
    check::<DeviceRow>(bytes).map(|row| row.into_device(uid, SeenRow::default()));
    check::<DeletedRow>(bytes);
    check::<FirstKeyRow>(bytes).map(|row| row.grown().into_key(String::new()));
    check::<KeyRow>(bytes).map(|row| row.into_key(String::new()));
    check::<KeyOriginRow>(bytes).map(KeyOriginRow::into_origin);
    check::<GrantRow>(bytes).map(|row| row.into_grant(uid));
    check::<ConfigRow>(bytes).map(|row| row.into_version(1));
    check::<OwnConfigRow>(bytes);
    check::<CommandRow>(bytes).map(|row| row.into_command(uid));
    check::<CommandOutputRow>(bytes);
    check::<BatchRow>(bytes).map(|row| row.into_batch(uid));
    check::<MemberRow>(bytes).map(MemberRow::into_member);
    check::<PlaceRow>(bytes).map(|row| row.place());
    check::<SessionRow>(bytes).map(|row| row.into_session([2; 32]));
    check::<EventRow>(bytes).map(|row| row.into_event(uid));
    check::<ChunkRow>(bytes).map(|row| row.chunk(&[0; 41]));
    check::<SegmentRow>(bytes).map(|row| row.segment(3));
    check::<PreauthRow>(bytes).map(|row| row.into_preauth(some_fingerprint()));
    check::<DoubleRow>(bytes).map(DoubleRow::into_double);
    check::<HeadRow>(bytes).map(HeadRow::remembered);
    check::<AuditRow>(bytes).map(AuditRow::into_record);
    check::<AuditOpenRow>(bytes);
    check::<AuditPointRow>(bytes).map(AuditPointRow::point);
    fleet_core::audit::check(bytes);
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;
    use std::time::Duration;

    use data_encoding::HEXLOWER;
    use fleet_core::api::{
        BatchState, CommandState, DoubleSign, EventKind, MemberState, Might, Right, Rights, Role,
        WhenOffline,
    };
    use fleet_core::codec;
    use fleet_core::id::Uid;
    use fleet_core::identity::PublicKey;
    use fleet_core::secret::KeyKind;
    use fleet_core::time::Timestamp;
    use fleet_core::wire::Facts;

    use super::*;
    use crate::series::catalog::{ChunkRef, SegmentInfo, Tier};
    use crate::series::head::{Cursor, Newest, Remembered};
    use crate::series::names::{Names, SeriesId};
    use crate::series::number::Number;
    use crate::series::wal::Lsn;
    use crate::store::{
        Action, Admission, BatchRecord, CommandRecord, Counts, Device, DoubleRecord, Event,
        GrantRecord, KeyRecord, MemberRecord, NewConfig, NextKey, OtherKeys, Place, PreauthRecord,
        ReportedConfig, ReportedPhase, SessionRecord,
    };

    /// Databases out there hold these bytes: a line here is never changed, only added.
    #[test]
    fn rows_keep_their_bytes() {
        let (device, seen) = device_rows(device());
        check(&SchemaRow { schema: 1 }, "2001a33fa6c201");
        check(
            &ServerKeyRow { key: [7; 32] },
            "2101536b46800707070707070707070707070707070707070707070707070707070707070707",
        );
        check(&DeletedRow::of(&self::device()), "3a01c593d8e8030172fd00d0ca9f17030000");
        check(&GroupRow { group: 7 }, "60019258622307");
        check(&UidRow { uid: [7; 16] }, "24012c52ad4707070707070707070707070707070707");
        check(
            &device,
            "22017ef6166908727069342d30303101020202020202020202020202020202020202020202020202\
             020202020202020201016e030172fd00d0ca9f1703000001680174016d016f016b01610176016200\
             040105010831302e302e302e323c01047261636b013704010501660c010165",
        );
        check(&seen, "23015a0758c9010604");
        check(
            &KeyRow::from(key()),
            "2502b72ee65d020303030303030303030303030303030303030303030303030303030303030303016c01\
             010101010101010101010101010101010104020104010601080001020106736974653d6101093139322e\
             302e322e31",
        );
        check(
            &first_key(),
            "25010d7b8fb502030303030303030303030303030303030303030303030303030303030303030301\
             6c0101010101010101010101010101010101010402010401060108",
        );
        check(
            &GrantRow::from(grant()),
            "2601c868018502020202020202020202020202020202020202020202020202020202020202020872\
             7069342d3030310361646102040101010101010101010101010101010101",
        );
        check(&ConfigRow::from(config()), "2701dc41d2f6027b7d0361646102010163010175");
        check(&OwnConfigRow { document: "{}".to_owned() }, "3c017ac20ab7027b7d");
        let floors = [i64::MIN, -1, 0, 1_705_314_600_000];
        check(
            &TelemetryRow { store: [8; 16], floors },
            "2d010ca4bf0a08080808080808080808080808080808fdffffffffffffffff0100fd808857191a\
             030000",
        );
        let names = Names::default();
        let id = names.series("m", &[("l", "v")]).unwrap();
        check(&SeriesRow::from(names.name(id).unwrap().as_ref()), "2e014d41635d016d01016c0176");
        check(
            &BatchRow::from(&batches()[0]),
            "34015077086400046578656302016101620670617573656401770201016602020777616974696e\
             6701066661696c656401030405060704736b69701003616461120101720102020202020202020202\
             020202020202",
        );
        check(
            &BatchRow::from(&batches()[1]),
            "3401f933b6b601027b7d0670617573656401770201016602020777616974696e6701066661696c6\
             56401030405060704736b69701003616461120101720102020202020202020202020202020202",
        );
        check(
            &MemberRow::from(&member()),
            "35012ce0c8f80101010101010101010101010101010108727069342d3030310772756e6e696e670\
             17702010401030303030303030303030303030303030104",
        );
        check(&PlaceRow::from(place()), "3601eea0323c0101010101010101010101010101010105");
        check(&ChunkRow::from(&chunk()), "2f01a5523e6c09fb581bfb680101");
        assert_eq!(
            HEXLOWER.encode(&ChunkRow::key(&chunk())),
            "0101010101010101010101010101010101800000000000ea600000000000000003000000000000\
             001d",
        );
        check(&SegmentRow::from(&segment()), "30017b89c5c503fb2823fb581b01fb6801");
        check(
            &HeadRow::from(remembered()),
            "3101751a3fa9014d01060606060606060606060606060606060502040b00d00fa28708ac020191\
             0101fbd007",
        );
        check(
            &EventRow::from(event()),
            "2a0119edb03d020f6465766963652e6163636570746564036164610108727069342d3030310174",
        );
        check(&SessionRow::from(session()), "2b01e354cf83016b0204");
        check(
            &CommandRow::from(&command()),
            "32010843bbed0202020202020202020202020202020208727069342d303031046578656302016101\
             62036164610204030772756e6e696e670177080103626f62010a010c01fc924f1200010d08",
        );
        check(&CommandOutputRow { output: b"out".to_vec() }, "330196b2d0b6036f7574");
        check(
            &DoubleRow::from(double()),
            "3e013232894102020202020202020202020202020202020202020202020202020202020202020204\
             00000000000000000000ffff0a000002fd00000000000000000000000000000301",
        );
        check(
            &PreauthRow::from(preauth()),
            "3f011625d5580108727069342d30303101016e010174036164610204",
        );
    }

    #[test]
    fn what_a_row_stores_comes_back() {
        let (row, seen) = device_rows(device());
        assert_eq!(row.into_device(device().uid, seen), Ok(device()));
        for phase in [ReportedPhase::Trying, ReportedPhase::Reverted { holds: 4 }] {
            let mut device = device();
            device.reported = device.reported.map(|reported| ReportedConfig { phase, ..reported });
            let (row, seen) = device_rows(device.clone());
            assert_eq!(row.into_device(device.uid, seen), Ok(device));
        }
        let gone = Device { state: Admission::Deleted, ..self::device() };
        assert_eq!(DeletedRow::of(&self::device()).restore(gone), self::device());
        assert_eq!(KeyRow::from(key()).into_key("k".to_owned()), key());
        let might = Might { role: Role::Admin, rights: Rights::new() };
        let grown = KeyRecord { might, scope: None, last_used_from: None, ..key() };
        assert_eq!(first_key().grown().into_key("k".to_owned()), grown);
        assert_eq!(GrantRow::from(grant()).into_grant(grant().uid), Ok(grant()));
        assert_eq!(ConfigRow::from(config()).into_version(1).config, config());
        assert_eq!(SessionRow::from(session()).into_session([4; 32]), session());
        assert_eq!(EventRow::from(event()).into_event(uid()), Ok(event()));
        assert_eq!(CommandRow::from(&command()).into_command(uid()), Ok(command()));
        for batch in batches() {
            assert_eq!(BatchRow::from(&batch).into_batch(uid()), Ok(batch));
        }
        assert_eq!(MemberRow::from(&member()).into_member(), Ok(member()));
        assert_eq!(PlaceRow::from(place()).place(), place());
        assert_eq!(DoubleRow::from(double()).into_double(), double());
        let row = PreauthRow::from(preauth());
        assert_eq!(row.into_preauth(some_fingerprint()), Ok(preauth()));
        assert_eq!(ChunkRow::from(&chunk()).chunk(&ChunkRow::key(&chunk())), Ok(chunk()));
        assert_eq!(SegmentRow::from(&segment()).segment(3), Ok(segment()));
        let Remembered { applied, cursors, missed, newest, newest_at } =
            HeadRow::from(remembered()).remembered().unwrap();
        let expected = remembered();
        assert_eq!((applied, missed), (expected.applied, expected.missed));
        assert_eq!(newest_at, expected.newest_at);
        assert_eq!((cursors, newest), (expected.cursors, expected.newest));
    }

    #[test]
    #[ignore = "writes the seeds anew: cargo test -p fleet-server --lib write_seeds -- --ignored"]
    fn write_seeds() {
        let (device, seen) = device_rows(device());
        for (name, bytes) in [
            ("device", codec::encode(&device)),
            ("seen", codec::encode(&seen)),
            ("deleted", codec::encode(&DeletedRow::of(&self::device()))),
            ("key", codec::encode(&KeyRow::from(key()))),
            ("first-key", codec::encode(&first_key())),
            ("grant", codec::encode(&GrantRow::from(grant()))),
            ("config", codec::encode(&ConfigRow::from(config()))),
            ("session", codec::encode(&SessionRow::from(session()))),
            ("event", codec::encode(&EventRow::from(event()))),
            ("command", codec::encode(&CommandRow::from(&command()))),
            ("batch", codec::encode(&BatchRow::from(&batches()[0]))),
            ("batch-config", codec::encode(&BatchRow::from(&batches()[1]))),
            ("member", codec::encode(&MemberRow::from(&member()))),
            ("chunk", codec::encode(&ChunkRow::from(&chunk()))),
            ("segment", codec::encode(&SegmentRow::from(&segment()))),
            ("preauth", codec::encode(&PreauthRow::from(preauth()))),
            ("double", codec::encode(&DoubleRow::from(double()))),
            ("head", codec::encode(&HeadRow::from(remembered()))),
        ] {
            fleet_core::fuzz::write_seed("rows", name, &bytes.unwrap()).unwrap();
        }
    }

    #[track_caller]
    fn check<R: Coded + Debug + PartialEq>(row: &R, frozen: &str) {
        let sealed = codec::seal(b"key", row).unwrap();
        assert_eq!(HEXLOWER.encode(&sealed), frozen, "{row:?}");
        assert_eq!(codec::open::<R>(b"key", &sealed).as_ref(), Ok(row));
    }

    fn uid() -> Uid {
        Uid::from_bytes([1; 16])
    }

    fn time(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn device() -> Device {
        Device {
            uid: uid(),
            id: "rpi4-001".parse().unwrap(),
            key: Some(PublicKey::from_bytes([2; 32])),
            name: Some("n".to_owned()),
            state: Admission::Revoked,
            state_reason: "r".to_owned(),
            state_at: time(1_700_000_000_000),
            facts: Facts {
                hostname: "h".to_owned(),
                device_type: "t".to_owned(),
                model: "m".to_owned(),
                os: "o".to_owned(),
                kernel: "k".to_owned(),
                arch: "a".to_owned(),
                version: "v".to_owned(),
                boot_id: "b".to_owned(),
                name: None,
                cores: 4,
                memory_bytes: Some(5),
                addresses: vec!["10.0.0.2".to_owned()],
                interval_secs: 60,
            },
            metadata: [("rack".to_owned(), "7".to_owned())].into(),
            created_at: time(2),
            last_seen: Some(time(3)),
            missed_reports: 4,
            other_keys: OtherKeys::default(),
            reported: Some(ReportedConfig {
                version: 5,
                hash: "f".to_owned(),
                at: time(6),
                error: Some("e".to_owned()),
                phase: ReportedPhase::Said,
            }),
        }
    }

    /// A device that had another key, and will have a third.
    fn with_other_keys(device: Device, command: Option<Uid>) -> Device {
        let key = |byte| PublicKey::from_bytes([byte; 32]);
        let next = Some(NextKey { key: key(3), command });
        let other_keys = OtherKeys { next, former: vec![key(1)] };
        Device { other_keys, ..device }
    }

    #[test]
    fn a_devices_keys_are_stored_together() {
        let [one, two, three] = ["01", "02", "03"].map(|byte| byte.repeat(32));
        let several = ["0201", &two, "01", &three, "01", &one].concat();
        let offered = ["0301", &two, &three, &"07".repeat(16), "01", &one].concat();
        let command = Uid::from_bytes([7; 16]);
        for (command, keys) in [(None, several), (Some(command), offered)] {
            let whole = with_other_keys(device(), command);
            let (row, seen) = device_rows(whole.clone());
            let has = |byte| row.has_key(PublicKey::from_bytes([byte; 32]));
            assert!([1, 2, 3].into_iter().all(has) && !has(4));
            let plain = codec::encode(&device_rows(device()).0).unwrap();
            let encoded = HEXLOWER.encode(&codec::encode(&row).unwrap());
            let plain_keys = ["01", two.as_str()].concat();
            assert_eq!(encoded, HEXLOWER.encode(&plain).replacen(&plain_keys, &keys, 1));
            assert_eq!(row.into_device(uid(), seen).unwrap(), whole);
        }
    }

    fn key() -> KeyRecord {
        KeyRecord {
            id: "k".to_owned(),
            kind: KeyKind::Device,
            hash: [3; 32],
            label: "l".to_owned(),
            device: Some(uid()),
            uses_left: Some(4),
            created_at: time(1),
            expires_at: Some(time(2)),
            revoked_at: Some(time(3)),
            last_used: Some(time(4)),
            last_used_from: Some("192.0.2.1".parse().unwrap()),
            might: Might { role: Role::Viewer, rights: [Right::Export].into() },
            scope: Some("site=a".to_owned()),
            origin: None,
        }
    }

    /// As it was kept before keys had roles.
    fn first_key() -> FirstKeyRow {
        KeyRow::from(key()).first
    }

    fn grant() -> GrantRecord {
        GrantRecord {
            uid: uid(),
            device_key: PublicKey::from_bytes([2; 32]),
            device_id: "rpi4-001".parse().unwrap(),
            created_by: "ada".to_owned(),
            created_at: time(1),
            expires_at: time(2),
            device: Some(uid()),
        }
    }

    fn config() -> NewConfig {
        NewConfig {
            document: "{}".to_owned(),
            own: None,
            author: "ada".to_owned(),
            at: time(1),
            comment: Some("c".to_owned()),
            server_url: Some("u".to_owned()),
        }
    }

    fn session() -> SessionRecord {
        SessionRecord { hash: [4; 32], key: "k".to_owned(), begun_at: time(1), used_at: time(2) }
    }

    fn event() -> Event {
        Event {
            at: time(1),
            kind: EventKind::DeviceAccepted,
            actor: "ada".to_owned(),
            device: Some(("rpi4-001".parse().unwrap(), uid())),
            text: "t".to_owned(),
        }
    }

    fn command() -> CommandRecord {
        CommandRecord {
            id: uid(),
            device: Uid::from_bytes([2; 16]),
            device_id: "rpi4-001".parse().unwrap(),
            command: "exec a b".parse().unwrap(),
            author: "ada".to_owned(),
            created_at: time(1),
            expires_at: time(2),
            timeout: Duration::from_millis(3),
            state: CommandState::Running,
            why: "w".to_owned(),
            state_at: time(4),
            cancel_asked_by: Some("bob".to_owned()),
            sent_at: Some(time(5)),
            accepted_at: Some(time(6)),
            exit_code: Some(-7),
            output: None,
            output_left_out: 8,
        }
    }

    fn batches() -> [BatchRecord; 2] {
        let mut counts = Counts::default();
        counts.add(MemberState::Waiting);
        counts.add(MemberState::Failed);
        let batch = BatchRecord {
            id: uid(),
            action: Action::Command("exec a b".parse().unwrap()),
            state: BatchState::Paused,
            why: "w".to_owned(),
            state_at: time(1),
            filter: Some("f".to_owned()),
            total: 2,
            counts,
            forgiven: 3,
            window: 4,
            canary: 5,
            max_fail: 6,
            timeout: Duration::from_millis(7),
            offline: WhenOffline::Skip,
            expires_at: time(8),
            author: "ada".to_owned(),
            created_at: time(9),
            reason: Some("r".to_owned()),
            retry_of: Some(Uid::from_bytes([2; 16])),
        };
        let action = Action::Config("{}".to_owned());
        [batch.clone(), BatchRecord { action, ..batch }]
    }

    fn member() -> MemberRecord {
        MemberRecord {
            device: uid(),
            device_id: "rpi4-001".parse().unwrap(),
            state: MemberState::Running,
            why: "w".to_owned(),
            state_at: time(1),
            begun_at: Some(time(2)),
            command: Some(Uid::from_bytes([3; 16])),
            version: Some(4),
        }
    }

    fn preauth() -> PreauthRecord {
        PreauthRecord {
            key: some_fingerprint(),
            device_id: Some("rpi4-001".parse().unwrap()),
            name: Some("n".to_owned()),
            tags: vec!["t".to_owned()],
            created_by: "ada".to_owned(),
            created_at: time(1),
            expires_at: time(2),
        }
    }

    fn double() -> DoubleRecord {
        DoubleRecord {
            key: PublicKey::from_bytes([2; 32]),
            since: time(1),
            last: time(2),
            addresses: ["10.0.0.2", "fd00::3"].map(|address| address.parse().unwrap()),
            sign: DoubleSign::Reports,
        }
    }

    fn place() -> Place {
        Place { batch: uid(), ordinal: 5 }
    }

    fn chunk() -> ChunkRef {
        ChunkRef {
            device: uid(),
            tier: Tier::Minute,
            first_at: -5,
            last_at: 60_000,
            segment: 3,
            offset: 29,
            bytes: 7_000,
            rows: 360,
            is_rolled: true,
        }
    }

    fn segment() -> SegmentInfo {
        let (bytes, live_bytes, live_chunks, live_rows) = (9_000, 7_000, 1, 360);
        SegmentInfo { number: 3, tier: Tier::Hour, bytes, live_bytes, live_chunks, live_rows }
    }

    fn remembered() -> Remembered {
        let newest =
            |series, at, value| Newest { series: SeriesId(series), at, number: Number::new(value) };
        Remembered {
            applied: Some(Lsn(77)),
            cursors: vec![Cursor { stream: [6; 16], seq: 5, born: 2, mark: 0 }],
            missed: 4,
            newest: vec![newest(0, 1_000, 41.25), newest(300, -1, -0.5)],
            newest_at: Some(1_000),
        }
    }
}
