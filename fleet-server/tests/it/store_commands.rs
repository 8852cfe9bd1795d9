//! What every store does with commands; a part of the contract.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::api::{CommandState, EventKind};
use fleet_core::id::Uid;
use fleet_core::limits::COMMANDS_PER_DEVICE_MAX;
use fleet_server::store::{
    CommandQuery, CommandRecord, Conflict, Device, Event, Inserted, Refusal, Store, StoreError,
    Tell,
};

use crate::store_kit::{device, silent, time};

type Any = Arc<dyn Store>;

pub(crate) fn command(device: &Device, words: &str, at: i64) -> CommandRecord {
    CommandRecord {
        id: Uid::new(),
        device: device.uid,
        device_id: device.id.clone(),
        command: words.parse().unwrap(),
        author: "operator:ada".to_owned(),
        created_at: time(at),
        expires_at: time(at + 1_000),
        timeout: Duration::from_secs(60),
        state: CommandState::Queued,
        why: "waits".to_owned(),
        state_at: time(at),
        cancel_asked_by: None,
        sent_at: None,
        accepted_at: None,
        exit_code: None,
        output: None,
        output_left_out: 0,
    }
}

fn everything() -> CommandQuery {
    CommandQuery { limit: 1_000, ..CommandQuery::default() }
}

async fn with_devices(store: &Any) -> (Device, Device) {
    let (one, two) = (device("one", 1), device("two", 2));
    for device in [&one, &two] {
        store.device_insert(device.clone()).await.unwrap();
    }
    (one, two)
}

async fn add(store: &Any, command: &CommandRecord) {
    let inserted = store.command_insert(vec![command.clone()], silent()).await.unwrap();
    assert!(inserted[0].is_new && inserted[0].superseded.is_empty(), "{inserted:?}");
    assert_eq!(inserted[0].command, *command);
}

async fn becomes(store: &Any, id: Uid, state: CommandState) -> CommandRecord {
    let change = move |command: &mut CommandRecord| {
        command.state = state;
        Ok(None)
    };
    store.command_change(id, Box::new(change)).await.unwrap()
}

fn ids(commands: &[CommandRecord]) -> Vec<Uid> {
    commands.iter().map(|command| command.id).collect()
}

pub(crate) async fn commands_are_found_by_id_device_and_state(store: Any) {
    let (one, two) = with_devices(&store).await;
    let first = command(&one, "exec a b", 10);
    let second = command(&two, "logs", 20);
    let third = command(&one, "logs -n 5", 30);
    for command in [&first, &second, &third] {
        add(&store, command).await;
    }
    assert_eq!(store.command_get(first.id).await.unwrap(), Some(first.clone()));
    assert_eq!(store.command_get(Uid::new()).await.unwrap(), None);
    becomes(&store, first.id, CommandState::Failed).await;
    let (a, b, c) = (first.id, second.id, third.id);
    let states = |states: &[CommandState]| CommandQuery { states: states.to_vec(), ..everything() };
    let of = |device: &Device| CommandQuery { device: Some(device.uid), ..everything() };
    for (query, found) in [
        (everything(), &[c, b, a][..]),
        (of(&one), &[c, a]),
        (of(&two), &[b]),
        (CommandQuery { device: Some(Uid::new()), ..everything() }, &[]),
        (states(&[CommandState::Failed]), &[a]),
        (states(&[CommandState::Queued, CommandState::Failed]), &[c, b, a]),
        (states(&[CommandState::Running]), &[]),
        (CommandQuery { before: Some(c), limit: 1, ..everything() }, &[b]),
        (CommandQuery { before: Some(a), ..everything() }, &[]),
        (CommandQuery { before: Some(c), ..of(&one) }, &[a]),
        (CommandQuery { limit: 0, ..everything() }, &[]),
        (CommandQuery { ending: Some(b.ending()), limit: 1, ..everything() }, &[b]),
    ] {
        let listed = store.command_list(query.clone()).await.unwrap();
        assert_eq!(ids(&listed), found, "{query:?}");
    }
    assert_eq!(ids(&store.command_open(one.uid).await.unwrap()), [c]);
    assert_eq!(store.command_open(two.uid).await.unwrap(), [second]);
}

pub(crate) async fn a_command_is_changed_in_one_piece(store: Any) {
    let (one, two) = with_devices(&store).await;
    let given = command(&one, "exec a", 10);
    add(&store, &given).await;
    // Of many who want to be the first, one is.
    let racing = (0..20_i64).map(|at| {
        let change = move |command: &mut CommandRecord| {
            if command.state != CommandState::Queued {
                return Err(Refusal("too late".to_owned()));
            }
            command.state = CommandState::Sent;
            command.sent_at = Some(time(at));
            (command.id, command.device) = (Uid::new(), Uid::new());
            Ok(None)
        };
        store.command_change(given.id, Box::new(change))
    });
    let done = futures_util::future::join_all(racing).await;
    let won: Vec<_> = done.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
    assert_eq!(won.len(), 1);
    assert_eq!((won[0].id, won[0].device), (given.id, one.uid), "these never change");
    assert_eq!(store.command_get(given.id).await.unwrap().as_ref(), Some(won[0]));

    let output = b"\xff\x00text".to_vec();
    let written = output.clone();
    let change = move |command: &mut CommandRecord| {
        command.state = CommandState::Succeeded;
        command.exit_code = Some(3);
        command.output = Some(written);
        command.output_left_out = 9;
        Ok(None)
    };
    store.command_change(given.id, Box::new(change)).await.unwrap();
    let stored = store.command_get(given.id).await.unwrap().unwrap();
    assert_eq!((stored.output.as_ref(), stored.exit_code), (Some(&output), Some(3)));
    assert_eq!(store.command_list(everything()).await.unwrap()[0].output, None);
    // A change that leaves it alone leaves it there.
    becomes(&store, given.id, CommandState::Failed).await;
    let stored = store.command_get(given.id).await.unwrap().unwrap();
    assert_eq!((stored.output, stored.state), (Some(output), CommandState::Failed));
    assert_eq!(store.command_open(one.uid).await.unwrap(), []);
    assert_eq!(store.command_open(two.uid).await.unwrap(), []);
    let missing = store.command_change(Uid::new(), Box::new(|_| Ok(None))).await.unwrap_err();
    assert_eq!(missing.to_string(), "no such command");
}

pub(crate) async fn a_command_is_given_once(store: Any) {
    let (one, two) = with_devices(&store).await;
    let given = command(&one, "restart nginx", 10);
    add(&store, &given).await;
    becomes(&store, given.id, CommandState::Succeeded).await;
    let again = CommandRecord { created_at: time(99), author: "bob".to_owned(), ..given.clone() };
    let inserted = store.command_insert(vec![again.clone(), again], silent()).await.unwrap();
    for inserted in inserted {
        assert!(!inserted.is_new);
        let (command, at) = (inserted.command, time(10));
        assert_eq!((command.state, command.created_at), (CommandState::Succeeded, at));
    }
    for other in [
        CommandRecord { command: "restart".parse().unwrap(), ..given.clone() },
        CommandRecord { device: two.uid, ..given.clone() },
    ] {
        // None of them is added, then.
        let innocent = command(&two, "logs", 20);
        let refused = store.command_insert(vec![innocent, other], silent()).await.unwrap_err();
        let exists = Conflict::Exists("command");
        assert!(matches!(refused, StoreError::Conflict(conflict) if conflict == exists));
    }
    assert_eq!(store.command_list(everything()).await.unwrap().len(), 1);
    let nobodys = CommandRecord { device: Uid::new(), ..command(&one, "logs", 30) };
    let refused = store.command_insert(vec![nobodys], silent()).await.unwrap_err();
    assert_eq!(refused.to_string(), "no such device");
}

pub(crate) async fn a_newer_command_takes_the_place_of_its_like(store: Any) {
    let (one, two) = with_devices(&store).await;
    let [old, other_words, other_device, reads] = [
        command(&one, "restart nginx", 10),
        command(&one, "restart", 11),
        command(&two, "restart nginx", 12),
        command(&one, "logs", 13),
    ];
    for command in [&old, &other_words, &other_device, &reads] {
        add(&store, command).await;
    }
    let new = command(&one, "restart nginx.service", 20);
    let more_reads = command(&one, "logs", 21);
    let inserted =
        store.command_insert(vec![new.clone(), more_reads.clone()], silent()).await.unwrap();
    assert_eq!(ids(&inserted[0].superseded), [old.id]);
    assert_eq!(inserted[1].superseded, []);
    let stored = store.command_get(old.id).await.unwrap().unwrap();
    assert_eq!(stored, inserted[0].superseded[0]);
    let why = format!("superseded by {}", new.id);
    assert_eq!((stored.state, stored.why), (CommandState::Cancelled, why));
    assert_eq!(stored.state_at, time(20));
    let open = store.command_open(one.uid).await.unwrap();
    assert_eq!(ids(&open), [other_words.id, reads.id, new.id, more_reads.id]);
    // What is on its way already does not make way.
    becomes(&store, new.id, CommandState::Sent).await;
    let newest = command(&one, "restart nginx", 30);
    add(&store, &newest).await;
    // Of those that come together the last one stands.
    let together: Vec<_> = (40..43).map(|at| command(&two, "reboot", at)).collect();
    let inserted = store.command_insert(together.clone(), silent()).await.unwrap();
    assert_eq!(ids(&inserted[2].superseded), [together[1].id]);
    let open = store.command_open(two.uid).await.unwrap();
    assert_eq!(ids(&open), [other_device.id, together[2].id]);
    assert_eq!(store.command_due(time(i64::MAX), 99).await.unwrap().len(), 7);
}

pub(crate) async fn a_device_has_so_many_commands_to_do(store: Any) {
    let (one, two) = with_devices(&store).await;
    let many = |count| (0..count).map(|at| command(&one, "exec a", at as i64)).collect::<Vec<_>>();
    let too_many =
        store.command_insert(many(COMMANDS_PER_DEVICE_MAX + 1), silent()).await.unwrap_err();
    assert!(too_many.to_string().contains("has 64 commands to do"), "{too_many}");
    assert_eq!(store.command_list(everything()).await.unwrap(), [], "none is added, then");
    let all = many(COMMANDS_PER_DEVICE_MAX);
    store.command_insert(all.clone(), silent()).await.unwrap();
    store.command_insert(many(1), silent()).await.unwrap_err();
    add(&store, &command(&two, "exec a", 1)).await;
    // What makes way makes room.
    becomes(&store, all[0].id, CommandState::Expired).await;
    let reboot = command(&one, "reboot", 99);
    add(&store, &reboot).await;
    store.command_insert(many(1), silent()).await.unwrap_err();
    let instead = store.command_insert(vec![command(&one, "reboot", 100)], silent()).await.unwrap();
    assert_eq!(ids(&instead[0].superseded), [reboot.id]);
}

pub(crate) async fn commands_are_due_in_their_order(store: Any) {
    let (one, two) = with_devices(&store).await;
    let late = CommandRecord { expires_at: time(5_000), ..command(&one, "exec a", 10) };
    let soon = CommandRecord { expires_at: time(2_000), ..command(&two, "exec b", 20) };
    for command in [&late, &soon] {
        add(&store, command).await;
    }
    let due = async |at| ids(&store.command_due(time(at), 99).await.unwrap());
    assert_eq!(due(1_999).await, []);
    assert_eq!(due(2_000).await, [soon.id]);
    assert_eq!(due(9_999).await, [soon.id, late.id]);
    assert_eq!(ids(&store.command_due(time(9_999), 1).await.unwrap()), [soon.id]);
    // One that was sent is given ten minutes more, and one that is over is never due.
    becomes(&store, soon.id, CommandState::Sent).await;
    assert_eq!(due(9_999).await, [late.id]);
    assert_eq!(due(2_000 + 600_000).await, [late.id, soon.id]);
    becomes(&store, late.id, CommandState::Cancelled).await;
    assert_eq!(due(i64::MAX).await, [soon.id]);
}

pub(crate) async fn commands_go_with_their_device(store: Any) {
    let (one, two) = with_devices(&store).await;
    let commands: Vec<_> = (0..5).map(|at| command(&one, "exec a", at)).collect();
    store.command_insert(commands.clone(), silent()).await.unwrap();
    becomes(&store, commands[0].id, CommandState::Failed).await;
    let kept = command(&two, "exec a", 9);
    add(&store, &kept).await;
    store.device_delete(one.uid, time(10)).await.unwrap();
    assert_eq!(store.command_list(everything()).await.unwrap().len(), 6, "until then");
    assert_eq!(store.device_purge(time(20)).await.unwrap(), 1);
    assert_eq!(ids(&store.command_list(everything()).await.unwrap()), [kept.id]);
    assert_eq!(ids(&store.command_due(time(i64::MAX), 99).await.unwrap()), [kept.id]);
    assert_eq!(store.command_get(commands[0].id).await.unwrap(), None);
}

pub(crate) async fn what_is_told_of_a_command_comes_with_its_change(store: Any) {
    let (one, _) = with_devices(&store).await;
    let mut news = store.event_news();
    let before = *news.borrow_and_update();
    let event = |text: &str| Event {
        at: time(1),
        kind: EventKind::CommandQueued,
        actor: "operator:ada".to_owned(),
        device: None,
        text: text.to_owned(),
    };
    let told = async || {
        let events = store.event_after(before, 9).await.unwrap();
        events.into_iter().map(|(_, event)| event.text).collect::<Vec<_>>()
    };
    let given = command(&one, "collect", 10);
    let tell = || -> Tell<Inserted> {
        Box::new(move |inserted| vec![event(inserted.command.command.word())])
    };
    store.command_insert(vec![given.clone(), given.clone()], tell()).await.unwrap();
    assert_eq!(told().await, ["collect"], "what is there already is no news");
    assert_eq!(*news.borrow_and_update(), before + 1);

    let change = move |command: &mut CommandRecord| {
        command.state = CommandState::Failed;
        Ok(Some(event("failed")))
    };
    store.command_change(given.id, Box::new(change)).await.unwrap();
    assert_eq!(told().await, ["collect", "failed"]);
    assert_eq!(*news.borrow_and_update(), before + 2);

    // Where it cannot be told, it is not done.
    let change = move |command: &mut CommandRecord| {
        command.state = CommandState::Succeeded;
        Ok(Some(event(&"x".repeat(2 << 20))))
    };
    let refused = store.command_change(given.id, Box::new(change)).await.unwrap_err();
    assert!(matches!(refused, StoreError::TooLarge("event")), "{refused:?}");
    let large: Tell<Inserted> = Box::new(move |_| vec![event(&"x".repeat(2 << 20))]);
    let other = command(&one, "reboot", 20);
    let refused = store.command_insert(vec![other.clone()], large).await.unwrap_err();
    assert!(matches!(refused, StoreError::TooLarge("event")), "{refused:?}");
    assert_eq!(store.command_get(other.id).await.unwrap(), None);
    assert_eq!(store.command_get(given.id).await.unwrap().unwrap().state, CommandState::Failed);
    assert_eq!(told().await.len(), 2);
    assert!(!news.has_changed().unwrap());
}
