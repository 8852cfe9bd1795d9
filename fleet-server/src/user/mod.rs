//! Who a server is that root starts: another user, for good.
//!
//! Where a service manager starts the server as a user of its own, there is nothing to do. In a
//! container root starts it, on a folder that is root's, too. So before the first thread starts the
//! folder is handed over ([`folder`]), and then root is given up: groups, group and user, in this order,
//! since each step needs the rights that the next one takes; and whatever a program could have by its
//! file. Nothing is believed to have worked: a server that could become root again does not start.

mod folder;

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::Path;
use std::str::FromStr;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::{self, Gid, Group, Uid, User};

pub use folder::FolderError;

/// What the system says of this process.
const STATUS: &str = "/proc/self/status";
/// The sets of capabilities there that let it do anything, now or by a system call.
const CAPABILITIES: [&str; 3] = ["CapPrm:", "CapEff:", "CapAmb:"];

/// A user as `--user` names one: `NAME`, `UID`, or either with `:GROUP` or `:GID` behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserName {
    user: String,
    group: Option<String>,
}

/// Not a user's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no user: give a name, or numbers such as 1000:1000")]
pub struct UserNameError;

impl FromStr for UserName {
    type Err = UserNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group.to_owned())),
            None => (text, None),
        };
        let is_name = |text: &str| {
            let mut letters = text.chars();
            letters.next().is_some_and(|first| first.is_ascii_alphanumeric() || first == '_')
                && letters.all(|letter| letter.is_ascii_alphanumeric() || "_-.$".contains(letter))
        };
        if is_name(user) && group.as_deref().is_none_or(is_name) {
            Ok(Self { user: user.to_owned(), group })
        } else {
            Err(UserNameError)
        }
    }
}

/// Why a server cannot be the user that it is told to be.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Nobody has the name.
    #[error("--user: this system has no {kind} {name:?}")]
    Unknown {
        /// A user, or a group.
        kind: &'static str,
        /// What it should be called.
        name: String,
    },
    /// A number that stands for itself alone.
    #[error("--user: no user has the number {0}, so give its group, too: {0}:GID")]
    NoGroup(u32),
    /// There would be nothing to give up.
    #[error("--user: {0} has the rights of root, which are to be given up: name another")]
    Root(String),
    /// The lists of users and groups.
    #[error("--user: cannot look up {name:?}")]
    Lookup {
        /// Who was looked up.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// The folder of its data.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A step that the system refused.
    #[error("cannot become the user {name}: cannot {step}")]
    Refused {
        /// Who was to be.
        name: String,
        /// What failed.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It was done, and root is not gone.
    #[error("cannot become the user {name} for good: {left}")]
    Left {
        /// Who was to be.
        name: String,
        /// What is left of root.
        left: String,
    },
}

impl UserError {
    /// Whether it is about what the server was told, rather than about the machine.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Unknown { .. } | Self::NoGroup(_) | Self::Root(_) => true,
            Self::Folder(error) => error.is_configuration(),
            Self::Lookup { .. } | Self::Refused { .. } | Self::Left { .. } => false,
        }
    }
}

/// What became of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Became {
    /// This user, by name and numbers.
    User(String),
    /// Nobody else, since it is not root's to begin with.
    Itself,
}

/// Hands the database's folder over to a user, and becomes that user for good; nothing of both if
/// this process is not root. To be called before any thread is started.
pub(crate) fn become_user(name: &UserName, database: &Path) -> Result<Became, UserError> {
    if !unistd::geteuid().is_root() {
        return Ok(Became::Itself);
    }
    let account = Account::find(name)?;
    folder::hand_over(database, &account)?;
    account.enter()?;
    Ok(Became::User(account.to_string()))
}

/// A user of this system.
struct Account {
    /// As it was asked for.
    name: String,
    /// Its name in the list of users, of which further groups follow; none if these are not wanted.
    listed: Option<CString>,
    uid: Uid,
    gid: Gid,
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}:{})", self.name, self.uid, self.gid)
    }
}

impl Account {
    fn find(wanted: &UserName) -> Result<Self, UserError> {
        let name = &wanted.user;
        let lookup = |error: Errno| UserError::Lookup { name: name.clone(), source: error.into() };
        let number = name.parse().ok();
        let listed = match number {
            Some(number) => User::from_uid(Uid::from_raw(number)),
            None => User::from_name(name),
        };
        let listed = listed.map_err(lookup)?;
        let uid = match (&listed, number) {
            (Some(user), _) => user.uid,
            (None, Some(number)) => Uid::from_raw(number),
            (None, None) => {
                return Err(UserError::Unknown { kind: "user", name: name.clone() });
            }
        };
        let gid = match (&wanted.group, &listed) {
            (Some(group), _) => find_group(group)?,
            (None, Some(user)) => user.gid,
            (None, None) => return Err(UserError::NoGroup(uid.as_raw())),
        };
        if uid.is_root() || gid.as_raw() == 0 {
            return Err(UserError::Root(name.clone()));
        }
        // Who names a group wants that one alone.
        let listed = listed.filter(|_| wanted.group.is_none());
        let listed = listed.and_then(|user| CString::new(user.name).ok());
        Ok(Self { name: name.clone(), listed, uid, gid })
    }

    /// Becomes it.
    fn enter(&self) -> Result<(), UserError> {
        let refused = |step| {
            move |error: Errno| UserError::Refused {
                name: self.to_string(),
                step,
                source: error.into(),
            }
        };
        match &self.listed {
            Some(name) => unistd::initgroups(name, self.gid),
            None => unistd::setgroups(&[self.gid]),
        }
        .map_err(refused("leave root's groups"))?;
        unistd::setresgid(self.gid, self.gid, self.gid).map_err(refused("leave root's group"))?;
        unistd::setresuid(self.uid, self.uid, self.uid).map_err(refused("stop being root"))?;
        // From now on no program that this one could run has more rights, whatever its file says.
        prctl::set_no_new_privs().map_err(refused("give up the rights of programs"))?;
        match self.left() {
            None => Ok(()),
            Some(left) => Err(UserError::Left { name: self.to_string(), left }),
        }
    }

    /// What is left of root, or cannot be known to be gone.
    fn left(&self) -> Option<String> {
        let root = (Uid::from_raw(0), Gid::from_raw(0));
        let (uid, gid) = (self.uid, self.gid);
        let users = unistd::getresuid().map(|it| [it.real, it.effective, it.saved]);
        let groups = unistd::getresgid().map(|it| [it.real, it.effective, it.saved]);
        if users != Ok([uid; 3]) || groups != Ok([gid; 3]) {
            return Some("the system says that this is somebody else".to_owned());
        }
        if !matches!(unistd::getgroups(), Ok(groups) if !groups.contains(&root.1)) {
            return Some("a member of root's group is left".to_owned());
        }
        let again = unistd::setresuid(root.0, root.0, root.0);
        if again.is_ok() || unistd::setresgid(root.1, root.1, root.1).is_ok() {
            return Some("root can be had back".to_owned());
        }
        match fs::read_to_string(STATUS) {
            Ok(status) => capabilities(&status),
            Err(error) => Some(format!("cannot read {STATUS}: {error}")),
        }
    }
}

/// The capabilities that a process still has, by what the system says of it.
fn capabilities(status: &str) -> Option<String> {
    let found: Vec<&str> = status
        .lines()
        .filter(|line| CAPABILITIES.iter().any(|set| line.starts_with(set)))
        .collect();
    if found.len() != CAPABILITIES.len() {
        return Some(format!("{STATUS} does not tell capabilities"));
    }
    let left = found.iter().find(|line| {
        let (_, set) = line.split_once(':').unwrap_or_default();
        set.trim().chars().any(|digit| digit != '0')
    });
    left.map(|line| format!("capabilities are left: {}", line.replace('\t', " ")))
}

fn find_group(name: &str) -> Result<Gid, UserError> {
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    let found = Group::from_name(name)
        .map_err(|error| UserError::Lookup { name: name.to_owned(), source: error.into() })?;
    found
        .map(|group| group.gid)
        .ok_or_else(|| UserError::Unknown { kind: "group", name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> UserName {
        text.parse().unwrap()
    }

    #[test]
    fn a_user_is_a_name_or_numbers() {
        for text in ["fleet-server", "1000", "1000:1000", "_x:adm", "a.b$"] {
            assert!(text.parse::<UserName>().is_ok(), "{text}");
        }
        for text in ["", ":", "a:", ":1", "-a", "a b", "a:b:c", "a/b", "1000,1"] {
            assert_eq!(text.parse::<UserName>(), Err(UserNameError), "{text}");
        }
    }

    #[test]
    fn whoever_is_to_be_is_found_or_told_apart() {
        let told = |text: &str| Account::find(&name(text)).map(|it| it.to_string());
        assert_eq!(told("4242:4243").unwrap(), "4242 (4242:4243)");
        for (text, word) in [
            ("no-such-user", "no user \"no-such-user\""),
            ("4242", "4242:GID"),
            ("4242:no-such-group", "no group \"no-such-group\""),
            ("root", "rights of root"),
            ("0:0", "rights of root"),
            ("4242:0", "rights of root"),
        ] {
            let error = told(text).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
            assert!(error.is_configuration(), "{error}");
        }
    }

    #[test]
    fn capabilities_that_are_left_are_seen() {
        let status = |effective: &str| {
            format!(
                "Uid:\t1\nCapInh:\t0000\nCapPrm:\t0000\nCapEff:\t{effective}\nCapBnd:\tffff\n\
                 CapAmb:\t0000\n"
            )
        };
        assert_eq!(capabilities(&status("0000")), None);
        let left = capabilities(&status("0400")).unwrap();
        assert_eq!(left, "capabilities are left: CapEff: 0400");
        assert!(capabilities("Uid:\t1\n").unwrap().contains("does not tell"));
    }
}
