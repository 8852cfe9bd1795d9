//! The same done to several things, one after another: one that fails is told and counted, and the
//! others go on.

use serde::Serialize;

use super::failure::Failure;
use super::listed::{Listed, Reader};
use super::output::Output;
use super::table::{Cell, Column};
use crate::api::Done;
use crate::operator::client::ClientError;
use crate::operator::exit::Exit;
use crate::untrusted::Untrusted;

/// Does the same to each, and tells of each what came of it.
pub async fn for_each(
    ids: &[String],
    done: &'static str,
    act: impl AsyncFn(&str) -> Result<Done, ClientError>,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let mut acted = Vec::new();
    for id in ids {
        match act(id).await {
            Ok(_) => {
                if output.format.is_table() {
                    output.line(&format!("{done} {id}"))?;
                }
                acted.push(Acted { id: Untrusted::from(id.as_str()), status: done, error: None });
            }
            Err(error) => {
                let failure = Failure::from(error);
                // One alone, or no server to go on with: that is the command's own failure.
                let hopeless = matches!(failure.exit(), Exit::Unreachable | Exit::NotAllowed);
                if ids.len() == 1 || hopeless {
                    return Err(failure);
                }
                output.note(&format!("{id}: {}", failure.message()))?;
                acted.push(Acted {
                    id: Untrusted::from(id.as_str()),
                    status: "failed",
                    error: Some(failure.message().to_owned()),
                });
            }
        }
    }
    if !output.format.is_table() {
        output.list(&acted)?;
    }
    let all = acted.iter().all(|acted| acted.error.is_none());
    Ok(if all { Exit::Done } else { Exit::NotDone })
}

/// What was done to one.
#[derive(Debug, Serialize)]
struct Acted {
    id: Untrusted,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Listed for Acted {
    const COLUMNS: &'static [Column] =
        &[Column::new("ID", 20), Column::new("STATUS", 10), Column::new("ERROR", 30)];

    fn cells(&self, _reader: Reader) -> Vec<Cell> {
        vec![Cell::new(&self.id), Cell::new(self.status), Cell::maybe(self.error.as_ref())]
    }

    fn name(&self) -> String {
        self.id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::listed::Format;
    use crate::cli::output::Terminal;
    use crate::cli::testing::written;

    #[tokio::test]
    async fn one_of_several_failing_is_told_and_counted() {
        let ids = ["a".to_owned(), "b/".to_owned(), "c".to_owned()];
        let act = async |id: &str| {
            if id.contains('/') { Err(ClientError::Name) } else { Ok(Done::new("deleted")) }
        };
        let (mut output, out, err) = written(Format::Table, Terminal::default());
        let exit = for_each(&ids, "deleted", act, &mut output).await.unwrap();
        assert_eq!(exit, Exit::NotDone);
        assert_eq!(out.text(), "deleted a\ndeleted c\n");
        assert!(err.text().starts_with("b/: not a name"), "{}", err.text());
        let failure = for_each(&ids[1..2], "deleted", act, &mut output).await.unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
    }
}
