//! `fleets devices list --deleted`, `delete` and `restore`: devices that go, and those had back.

use std::cell::RefCell;

use fleet_core::api::{DeletedDevice, Done};
use fleet_core::cli::each::for_each;
use fleet_core::cli::failure::Failure;
use fleet_core::cli::listed::{Listed, Reader};
use fleet_core::cli::output::Output;
use fleet_core::cli::prompt;
use fleet_core::cli::table::{Cell, Column};
use fleet_core::operator::client::Client;
use fleet_core::operator::exit::Exit;
use serde::Serialize;

/// Lists the devices that can be had back.
pub(super) async fn list(client: &Client, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let deleted: Vec<_> = client.deleted_list().await?.into_iter().map(Row).collect();
    output.list(&deleted)?;
    if deleted.is_empty() {
        output.note("No deleted devices that can be had back.")?;
    }
    Ok(Exit::Done)
}

/// Deletes devices, and says until when and how they can be had back.
pub(super) async fn delete(
    client: &Client,
    ids: &[String],
    yes: bool,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    ask_before(ids, yes, output).await?;
    let deleted = RefCell::new((Vec::new(), None));
    let delete = async |id: &str| {
        let done = client.device_delete(id).await?;
        if let Some(until) = done.kept_until {
            let mut deleted = deleted.borrow_mut();
            deleted.0.push(id.to_owned());
            deleted.1.get_or_insert(until);
        }
        Ok(Done { status: done.status })
    };
    let exit = for_each(ids, "deleted", delete, output).await?;
    let (ids, until) = deleted.into_inner();
    if let Some(until) = until {
        let them = if ids.len() == 1 { "it" } else { "them" };
        let ids = ids.join(" ");
        output.note(&format!("until {until} `fleets devices restore {ids}` has {them} back"))?;
    }
    Ok(exit)
}

/// Has deleted devices back.
pub(super) async fn restore(
    client: &Client,
    ids: &[String],
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let stand = RefCell::new(Vec::new());
    let restore = async |id: &str| {
        let device = client.device_restore(id).await?;
        stand.borrow_mut().push(format!(
            "{} is {}: {}",
            device.id,
            device.status.word(),
            device.why
        ));
        Ok(Done::new("restored"))
    };
    let exit = for_each(ids, "restored", restore, output).await?;
    for line in stand.into_inner() {
        output.note(&line)?;
    }
    Ok(exit)
}

async fn ask_before(ids: &[String], yes: bool, output: &mut Output<'_>) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !output.terminal.can_ask() {
        return Err(Failure::usage("there is no terminal to ask on whether to delete")
            .hint("give --yes if you mean it"));
    }
    let question = format!("Delete {} device(s): {}?", ids.len(), ids.join(", "));
    if prompt::confirm(&question, output).await? {
        Ok(())
    } else {
        Err(Failure::new(Exit::Interrupted, "nothing was deleted"))
    }
}

/// A deleted device as a row.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Row(DeletedDevice);

impl Listed for Row {
    const COLUMNS: &'static [Column] = &[
        Column::new("ID", 20),
        Column::new("WAS", 8),
        Column::new("DELETED", 10),
        Column::new("GOES", 10),
        Column::new("TYPE", 11),
        Column::new("FINGERPRINT", 16),
        Column::new("UID", 36),
    ];

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        let Self(device) = self;
        vec![
            Cell::new(&device.id),
            Cell::new(&device.was),
            reader.time(Some(device.deleted_at)),
            reader.time(Some(device.kept_until)),
            Cell::new(&device.device_type),
            Cell::maybe(device.fingerprint),
            Cell::new(device.uid),
        ]
    }

    fn name(&self) -> String {
        self.0.id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use fleet_core::cli::listed::Format;
    use fleet_core::cli::output::Terminal;
    use fleet_core::cli::testing::written;

    use super::*;

    #[tokio::test]
    async fn nothing_is_deleted_without_a_yes() {
        let (mut output, ..) = written(Format::Table, Terminal::default());
        let ids = ["a".to_owned()];
        let refusal = ask_before(&ids, false, &mut output).await.unwrap_err();
        assert_eq!(refusal.exit(), Exit::Usage);
        assert!(ask_before(&ids, true, &mut output).await.is_ok());
    }
}
