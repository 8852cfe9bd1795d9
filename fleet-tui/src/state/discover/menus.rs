//! What can be done on the screen, and the question that comes before it is done.

use fleet_core::api::ClaimMode;
use fleet_core::claim::ClaimCode;
use fleet_core::field::{Field, SortKey};
use fleet_core::operator::claim::Target;
use fleet_core::untrusted::escaped;

use super::{DiscoverScreen, Order};
use crate::layout::DiscoverPane;
use crate::state::Desk;
use crate::state::popup::{Command, Confirm, Lock, Menu, MenuItem, Popup};

/// Devices that a question names.
const NAMED_MAX: usize = 5;
/// Devices of one run from which on the number has to be typed.
const MANY: usize = 100;
/// What the rows can be sorted by.
const SORTABLE: [Field; 5] =
    [Field::Device, Field::Hostname, Field::Address, Field::Version, Field::Status];

impl DiscoverScreen {
    /// Asks whether these devices are to be configured; or says why they cannot be now.
    pub(super) fn confirm(&self, targets: Vec<Target>, desk: &Desk) -> Result<Popup, String> {
        if let Some(reason) = desk.why_not_bring_in() {
            return Err(reason.to_owned());
        }
        if targets.is_empty() {
            return Err(self.why_none(desk));
        }
        let server_url = self.form.server_url().map_err(|error| format!("server URL: {error}"))?;
        let code = self.code_for(&targets)?;
        let tags = self.form.tags();
        let count = targets.len();
        let what = devices(count);
        let mut names: Vec<_> =
            targets.iter().take(NAMED_MAX).map(|target| target.device_id.to_string()).collect();
        if count > NAMED_MAX {
            names.push(format!("and {} more", count - NAMED_MAX));
        }
        let lock = if count > MANY {
            Lock::Typed { text: count.to_string(), name: "the number of devices" }
        } else {
            Lock::Yes
        };
        let is_elsewhere = |target: &Target| {
            target.addresses.iter().any(|address| !address.ip().to_canonical().is_loopback())
        };
        let targets_are_elsewhere = targets.iter().any(is_elsewhere);
        let order = Order { targets, server_url: server_url.clone(), tags: tags.clone(), code };
        let command = Command::Provision(order);
        let mut question =
            Confirm::new(format!("Configure {what}"), format!("configure {count}"), lock, command)
                .changing()
                .line("server", place_name(desk))
                .line("devices", names.join(", "))
                .line("effect", "each gets a grant to join; nothing else on it changes");
        if self.form.is_loopback() && targets_are_elsewhere {
            let told = "the server's own addresses, for this URL leads nowhere but to its host";
            question = question.line("told", told);
        } else if let Some(url) = &server_url {
            question = question.line("told", format!("to look for the server at {url} first"));
        }
        if !tags.is_empty() {
            question = question.line("tags", escaped(&tags.join(" ")));
        }
        let (_, hidden) = self.marked();
        if hidden > 0 {
            question = question.line("hidden", format!("{hidden} of them by the filter"));
        }
        let undo = "`sudo fleetd reset` on the device; delete it in the fleet";
        Ok(Popup::Confirm(question.line("undo", undo)))
    }

    /// The code of the one device that asks for it; or why these devices cannot be claimed from here.
    fn code_for(&self, targets: &[Target]) -> Result<Option<ClaimCode>, String> {
        let asking = |mode| targets.iter().filter(move |target| target.claim == Some(mode));
        if let Some(target) = asking(ClaimMode::Key).next() {
            let id = &target.device_id;
            return Err(format!(
                "{id} asks for its owner's claim key: fleets configure --claim-key-file FILE"
            ));
        }
        match (asking(ClaimMode::Code).count(), targets) {
            (0, _) => Ok(None),
            (_, [target]) if self.form.code.is_empty() => Err(format!(
                "{} asks for its claim code: the form has a field for it",
                target.device_id
            )),
            (_, [_]) => match self.form.code.text().parse() {
                Ok(code) => Ok(Some(code)),
                Err(error) => Err(format!("claim code: {error}")),
            },
            (count, _) => Err(format!(
                "{count} of these ask for claim codes: one at a time, or fleets configure --codes FILE"
            )),
        }
    }

    /// Asks whether those that failed are to be tried again.
    pub(super) fn retry(&self, desk: &Desk) -> Result<Popup, String> {
        let failed: Vec<_> = self.run.failed().map(|row| self.newest(&row.target)).collect();
        if failed.is_empty() {
            return Err("nothing has failed".to_owned());
        }
        self.confirm(failed, desk)
    }

    /// What can be done here.
    pub(in crate::state) fn actions_menu(&self, desk: &Desk) -> Menu {
        let chosen = self.chosen(desk);
        let text = match (self.marked().0, chosen.as_slice()) {
            (0, [one]) => format!("configure {}…", one.device_id),
            (0, _) => "configure…".to_owned(),
            (_, chosen) => format!("configure {} marked…", chosen.len()),
        };
        let failed = self.run.failed().count();
        let items = vec![
            item('c', text, self.confirm(chosen, desk)),
            item('r', format!("retry {failed} failed…"), self.retry(desk)),
        ];
        Menu::new("Actions", items)
    }

    /// What can be copied of the device at the cursor.
    pub(super) fn copy_menu(&self, desk: &Desk) -> Option<Menu> {
        let mut items = Vec::new();
        let mut item = |key, text: &'static str, copied: String| {
            let detail = copied.clone();
            let command = Some(Command::Copy(text, copied));
            items.push(MenuItem { key, text: text.to_owned(), detail, command });
        };
        let title = if self.pane == DiscoverPane::Run {
            let row = self.run.at_cursor()?;
            if let Some(trouble) = row.trouble() {
                item('e', "error", trouble);
            }
            item('i', "device id", row.target.device_id.to_string());
            item('f', "fingerprint", row.target.fingerprint.to_string());
            item('c', "command for the shell", self.shell_command(desk));
            format!("Copy of {}", row.target.device_id)
        } else {
            let seen = self.at_cursor()?;
            let device = &seen.sighting.device;
            if let Some(id) = &device.device_id {
                item('i', "device id", id.to_string());
            }
            if let Some(address) = seen.address(self.interfaces.as_deref().unwrap_or_default()) {
                item('a', "address", address);
            }
            if let Some(fingerprint) = device.fingerprint {
                item('f', "fingerprint", fingerprint.to_string());
            }
            item('h', "host", device.host.to_string());
            if let Some(id) = &device.device_id {
                let server = &desk.settings.server;
                let command = format!("fleets configure --server {server} --device {id}");
                item('c', "command for the shell", command);
            }
            format!("Copy of {}", seen.label(self.known(seen, desk)))
        };
        Some(Menu::new(title, items))
    }

    /// The columns to sort by.
    pub(super) fn sort_menu(&self) -> Menu {
        let item = |(letter, field): (char, Field)| {
            let spec = field.spec();
            let is_descending = field == self.sort.field && !self.sort.is_descending;
            let command = Some(Command::Sort(SortKey { field, is_descending }));
            let detail = if field == Field::Status && !is_descending {
                "what can be configured comes first, also when it comes later"
            } else {
                "once; devices that come later are at the end"
            };
            MenuItem {
                key: letter,
                text: spec.title.to_owned(),
                detail: detail.to_owned(),
                command,
            }
        };
        Menu::new("Sort by", ('a'..).zip(SORTABLE).map(item).collect())
    }

    /// The last run as a command: what it would be without the console.
    pub fn shell_command(&self, desk: &Desk) -> String {
        let ids: Vec<_> =
            self.run.rows().iter().map(|row| row.target.device_id.to_string()).collect();
        let server = &desk.settings.server;
        format!("fleets configure --server {server} --device {}", ids.join(","))
    }

    /// A device as it announces itself now, if it does: it may have moved.
    fn newest(&self, target: &Target) -> Target {
        let is_it = |seen: &&Target| {
            seen.fingerprint == target.fingerprint && seen.device_id == target.device_id
        };
        let seen = self.seen.rows().iter().filter_map(super::Seen::target).find(is_it);
        seen.unwrap_or(target).clone()
    }

    fn why_none(&self, desk: &Desk) -> String {
        if !self.marks.is_empty() {
            return "those that are marked are not announced any more".to_owned();
        }
        match self.at_cursor() {
            Some(seen) => self.why_not(seen, desk).unwrap_or_default(),
            None => "no device is marked".to_owned(),
        }
    }
}

/// The server as a question names it.
fn place_name(desk: &Desk) -> String {
    let server = &desk.settings.server;
    match &desk.settings.context {
        Some(context) => format!("{context}, {server}"),
        None => server.clone(),
    }
}

/// So many devices, in words.
fn devices(count: usize) -> String {
    if count == 1 { "1 device".to_owned() } else { format!("{count} devices") }
}

fn item(key: char, text: String, popup: Result<Popup, String>) -> MenuItem {
    match popup {
        Ok(popup) => {
            let command = Some(Command::Popup(Box::new(popup)));
            MenuItem { key, text, detail: String::new(), command }
        }
        Err(reason) => MenuItem { key, text, detail: reason, command: None },
    }
}
