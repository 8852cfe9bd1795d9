//! Commands and batches by the last characters of their ids, as lists show them.

use fleet_core::cli::failure::Failure;
use fleet_core::id::{Uid, UidEnding, UidName};
use fleet_core::limits::PAGE_ROWS_MAX;
use fleet_core::operator::client::Client;
use fleet_core::operator::commands::CommandQuery;
use fleet_core::operator::exit::Exit;

/// Candidates that an error names.
const NAMED_MAX: usize = 5;

/// The command that is meant.
pub(super) async fn command(name: UidName, client: &Client) -> Result<Uid, Failure> {
    let ending = match name {
        UidName::Whole(id) => return Ok(id),
        UidName::Ending(ending) => ending,
    };
    let query = CommandQuery {
        ending: Some(ending.clone()),
        limit: Some(NAMED_MAX + 1),
        ..CommandQuery::default()
    };
    let found = client.command_list(&query).await?;
    the_one("command", &ending, found.iter().map(|command| command.id).collect())
}

/// The batch that is meant. There are so few of them that all are looked at.
pub(super) async fn batch(name: UidName, client: &Client) -> Result<Uid, Failure> {
    let ending = match name {
        UidName::Whole(id) => return Ok(id),
        UidName::Ending(ending) => ending,
    };
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = client.batch_list(before, Some(PAGE_ROWS_MAX)).await?;
        found.extend(page.iter().map(|batch| batch.id).filter(|id| ending.fits(*id)));
        before = page.last().map(|batch| batch.id);
        if page.len() < PAGE_ROWS_MAX {
            return the_one("batch", &ending, found);
        }
    }
}

fn the_one(noun: &str, ending: &UidEnding, found: Vec<Uid>) -> Result<Uid, Failure> {
    match found.as_slice() {
        [id] => Ok(*id),
        [] => Err(Failure::new(Exit::NothingFound, format!("no {noun}'s id ends in {ending}"))),
        several => {
            let ids: Vec<_> = several.iter().take(NAMED_MAX).map(Uid::to_string).collect();
            let more = if several.len() > NAMED_MAX { ", …" } else { "" };
            let ids = ids.join(", ");
            let text = format!("{ending} is the end of several {noun} ids: {ids}{more}");
            Err(Failure::usage(text).hint("give more of the one that you mean"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_that_several_ids_have_names_them() {
        let id = |first: u8, last: u8| {
            Uid::from_bytes([[first; 12].as_slice(), &[last; 4]].concat().try_into().unwrap())
        };
        let ending = id(1, 7).ending();
        assert_eq!(the_one("command", &ending, vec![id(1, 7)]).ok(), Some(id(1, 7)));
        let none = the_one("batch", &ending, Vec::new()).unwrap_err();
        assert_eq!(
            (none.exit(), none.message()),
            (Exit::NothingFound, "no batch's id ends in 07070707")
        );
        let several = the_one("command", &ending, vec![id(1, 7), id(2, 7)]).unwrap_err();
        assert_eq!(several.exit(), Exit::Usage);
        let (one, other) = (id(1, 7), id(2, 7));
        assert_eq!(
            several.message(),
            format!("07070707 is the end of several command ids: {one}, {other}")
        );
        let many = the_one("command", &ending, (0..6).map(|n| id(n, 7)).collect()).unwrap_err();
        assert!(many.message().ends_with(", …"), "{}", many.message());
    }
}
