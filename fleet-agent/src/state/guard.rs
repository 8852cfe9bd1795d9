//! What a claimer has to prove where the owner's policy asks for more than being near: the device's
//! code, or the key that its owner put on it.
//!
//! The code is made when the device can be claimed by it, and gone once it was. Wrong proofs are
//! counted on the disk before they are answered, so that no restart begins them anew: after
//! [`TRIES_MAX`] of them nothing is taken for a while. How long is left is kept by the wall clock over
//! a restart, and a clock that was set cannot make it longer than it ever was.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bincode::{Decode, Encode};
use fleet_core::Chain;
use fleet_core::claim::{ClaimCode, ClaimContext, ClaimKey, ClaimSecret};
use fleet_core::codec::Coded;
use fleet_core::time::{Clock, Timestamp};

use super::folder::{Folder, StateError};
use crate::config::ClaimPolicy;

/// Wrong proofs before the device takes none for a while.
pub const TRIES_MAX: u8 = 5;

/// The file with the device's code.
const CODE_FILE: &str = "claim-code";
/// The file with what is counted.
const TRIES_FILE: &str = "claim-tries";

/// The code as it is kept.
#[derive(Encode, Decode)]
struct KeptCode(String);

impl Coded for KeptCode {
    const TAG: u8 = 48;
    const VERSION: u8 = 1;
}

/// Wrong proofs so far, and until when none is taken, in milliseconds since 1970.
#[derive(Clone, Copy, Default, Encode, Decode)]
struct Tries {
    wrong: u8,
    asleep_until: Option<i64>,
}

impl Coded for Tries {
    const TAG: u8 = 49;
    const VERSION: u8 = 1;
}

/// Judges proofs.
pub struct ClaimGuard {
    folder: Folder,
    policy: ClaimPolicy,
    /// How long nothing is taken after too many wrong proofs.
    rest: Duration,
    clock: Arc<dyn Clock>,
    held: Mutex<Held>,
}

struct Held {
    secret: Option<ClaimSecret>,
    wrong: u8,
    awake: Option<Instant>,
}

/// Why a proof was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// There is none.
    #[error("{}", missing_text(*.0))]
    Missing(ClaimPolicy),
    /// It is another secret's, or another connection's.
    #[error("{}", wrong_text(*.policy, *.left, *.rest))]
    Wrong {
        /// What was asked for.
        policy: ClaimPolicy,
        /// How many more may be wrong.
        left: u8,
        /// How long nothing is taken then.
        rest: Duration,
    },
    /// Too many were wrong.
    #[error("after {TRIES_MAX} wrong proofs this device takes no claims for {}", minutes(*.0))]
    Asleep(Duration),
    /// The disk.
    #[error("this device cannot keep the claim")]
    State(#[from] StateError),
}

impl ClaimGuard {
    /// As the disk has it. A device that has no server and goes by a code gets one.
    pub fn open(
        folder: Folder,
        policy: ClaimPolicy,
        key: Option<ClaimKey>,
        rest: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StateError> {
        let tries = folder.load::<Tries>(TRIES_FILE).unwrap_or_else(|error| {
            // As after the last wrong one: damage must not be a way to more tries.
            tracing::warn!(error = %Chain(&error), "wrong claims are counted anew");
            let until = clock.now().plus(rest).millis();
            Some(Tries { wrong: TRIES_MAX, asleep_until: Some(until) })
        });
        let tries = tries.unwrap_or_default();
        let left = tries
            .asleep_until
            .map(|until| Timestamp::from_millis(until).since(clock.now()).min(rest));
        let held = Held {
            secret: key.map(ClaimSecret::Key),
            wrong: if left.is_some() { 0 } else { tries.wrong.min(TRIES_MAX - 1) },
            awake: left.map(|left| Instant::now() + left),
        };
        Ok(Self { folder, policy, rest, clock, held: Mutex::new(held) })
    }

    /// Makes or finds the code, if the device goes by one; forgets it where it is of no use. To be
    /// called when it is known whether the device has a server.
    pub fn settle(&self, has_server: bool) -> Result<(), StateError> {
        if has_server || !self.policy.asks_for_proof() {
            return self.spend();
        }
        if self.policy == ClaimPolicy::Code {
            let code = match load_code(&self.folder)? {
                Some(code) => code,
                None => self.make_code()?,
            };
            self.held().secret = Some(ClaimSecret::Code(code));
        }
        Ok(())
    }

    /// As at first: another code, and no wrong proofs yet.
    pub fn begin_anew(&self, has_server: bool) -> Result<(), StateError> {
        erase(&self.folder)?;
        let mut held = self.held();
        (held.wrong, held.awake) = (0, None);
        drop(held);
        self.settle(has_server)
    }

    /// Whether the proof is one of what is asked for. Without a policy that asks for one, any is.
    pub fn check(&self, context: &ClaimContext<'_>, proof: Option<&str>) -> Result<(), ProofError> {
        if !self.policy.asks_for_proof() {
            return Ok(());
        }
        let mut held = self.held();
        if let Some(left) = held.asleep() {
            return Err(ProofError::Asleep(left));
        }
        let proof = proof.ok_or(ProofError::Missing(self.policy))?;
        if held.secret.as_ref().is_some_and(|secret| secret.is_proven(context, proof)) {
            return Ok(());
        }
        // On the disk first: who pulls the plug after a wrong one has had it all the same.
        let wrong = held.wrong + 1;
        let is_last = wrong >= TRIES_MAX;
        let until = is_last.then(|| self.clock.now().plus(self.rest).millis());
        self.folder.store(TRIES_FILE, &Tries { wrong, asleep_until: until })?;
        if is_last {
            tracing::warn!(rest = %minutes(self.rest), "too many wrong proofs; takes no claims for a while");
            (held.wrong, held.awake) = (0, Some(Instant::now() + self.rest));
        } else {
            held.wrong = wrong;
        }
        let (policy, left) = (self.policy, TRIES_MAX - wrong);
        Err(ProofError::Wrong { policy, left, rest: self.rest })
    }

    /// Uses the code up, and forgets what was wrong: the device has been claimed.
    pub fn spend(&self) -> Result<(), StateError> {
        let mut held = self.held();
        if matches!(held.secret, Some(ClaimSecret::Code(_))) {
            held.secret = None;
        }
        (held.wrong, held.awake) = (0, None);
        drop(held);
        erase(&self.folder)
    }

    /// Wrong proofs that are left, where any is asked for.
    pub fn tries_left(&self) -> Option<u8> {
        let mut held = self.held();
        let left = if held.asleep().is_some() { 0 } else { TRIES_MAX - held.wrong };
        self.policy.asks_for_proof().then_some(left)
    }

    /// How long no claim is taken, after too many wrong ones.
    pub fn asleep(&self) -> Option<Duration> {
        self.held().asleep().filter(|_| self.policy.asks_for_proof())
    }

    fn make_code(&self) -> Result<ClaimCode, StateError> {
        let code = ClaimCode::generate().map_err(|error| StateError::Write {
            path: self.folder.path().join(CODE_FILE),
            source: std::io::Error::other(error),
        })?;
        self.folder.store(CODE_FILE, &KeptCode(code.reveal().to_string()))?;
        let shown = code.reveal();
        tracing::info!(
            code = shown.as_str(),
            "this device's claim code; sudo fleetd info shows it, too"
        );
        Ok(code)
    }

    /// Nothing is left half done by a panic: the disk is written before the memory.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn asleep(&mut self) -> Option<Duration> {
        let left = self.awake?.saturating_duration_since(Instant::now());
        if left.is_zero() {
            self.awake = None;
            return None;
        }
        Some(left)
    }
}

/// The code that a device can be claimed by, if there is one.
pub fn load_code(folder: &Folder) -> Result<Option<ClaimCode>, StateError> {
    let kept = folder.load::<KeptCode>(CODE_FILE)?;
    // What was sealed as a code reads as one.
    Ok(kept.and_then(|KeptCode(text)| text.parse().ok()))
}

/// Takes the code and what was counted out of a folder.
pub fn erase(folder: &Folder) -> Result<(), StateError> {
    folder.remove(CODE_FILE)?;
    folder.remove(TRIES_FILE)?;
    Ok(())
}

fn missing_text(policy: ClaimPolicy) -> &'static str {
    match policy {
        ClaimPolicy::Key => "this device asks for its owner's claim key",
        ClaimPolicy::Open | ClaimPolicy::Code | ClaimPolicy::Disabled => {
            "this device asks for its claim code"
        }
    }
}

fn wrong_text(policy: ClaimPolicy, left: u8, rest: Duration) -> String {
    let what = match policy {
        ClaimPolicy::Key => "this is not the claim key of the device's owner",
        ClaimPolicy::Open | ClaimPolicy::Code | ClaimPolicy::Disabled => {
            "this is not the device's claim code"
        }
    };
    match left {
        0 => format!("{what}; it takes no claims for {} now", minutes(rest)),
        1 => format!("{what}; 1 try is left before it takes no claims for {}", minutes(rest)),
        _ => {
            format!("{what}; {left} tries are left before it takes no claims for {}", minutes(rest))
        }
    }
}

/// Whole minutes, as people say them.
pub fn minutes(duration: Duration) -> String {
    format!("{} min", duration.as_secs().div_ceil(60).max(1))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    const REST: Duration = Duration::from_secs(600);
    const CONTEXT: ClaimContext<'static> =
        ClaimContext { exporter: [1; 32], device_pub: [2; 32], server_pub: [3; 32], grant: "g" };

    #[derive(Default)]
    struct Hand(AtomicI64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0.load(Ordering::Relaxed))
        }
    }

    fn opened(path: &std::path::Path, clock: &Arc<Hand>) -> ClaimGuard {
        let folder = Folder::new(path);
        let guard = ClaimGuard::open(folder, ClaimPolicy::Code, None, REST, clock.clone()).unwrap();
        guard.settle(false).unwrap();
        guard
    }

    fn proof(path: &std::path::Path) -> String {
        let code = load_code(&Folder::new(path)).unwrap().unwrap();
        ClaimSecret::Code(code).prove(&CONTEXT)
    }

    #[test]
    fn a_code_stays_until_it_is_used_and_then_another_is_made() {
        let path = tempfile::tempdir().unwrap();
        let clock = Arc::new(Hand::default());
        let first = proof_of(&opened(path.path(), &clock), path.path());
        let guard = opened(path.path(), &clock);
        assert_eq!(proof(path.path()), first);
        guard.check(&CONTEXT, Some(&first)).unwrap();
        guard.check(&CONTEXT, Some(&first)).unwrap();
        guard.spend().unwrap();
        assert!(load_code(&Folder::new(path.path())).unwrap().is_none());
        assert!(matches!(guard.check(&CONTEXT, Some(&first)), Err(ProofError::Wrong { .. })));
        guard.begin_anew(false).unwrap();
        assert_ne!(proof(path.path()), first);
        assert_eq!(guard.tries_left(), Some(TRIES_MAX));
        guard.check(&CONTEXT, Some(&proof(path.path()))).unwrap();
        guard.settle(true).unwrap();
        assert!(load_code(&Folder::new(path.path())).unwrap().is_none());
    }

    fn proof_of(_open: &ClaimGuard, path: &std::path::Path) -> String {
        proof(path)
    }

    #[test]
    fn after_five_wrong_proofs_it_sleeps_and_no_restart_wakes_it() {
        let path = tempfile::tempdir().unwrap();
        let clock = Arc::new(Hand::default());
        clock.0.store(1_000_000, Ordering::Relaxed);
        let guard = opened(path.path(), &clock);
        assert!(matches!(guard.check(&CONTEXT, None), Err(ProofError::Missing(_))));
        for left in [4, 3, 2] {
            let error = guard.check(&CONTEXT, Some("wrong")).unwrap_err();
            assert!(matches!(error, ProofError::Wrong { left: l, .. } if l == left), "{error}");
        }
        let guard = opened(path.path(), &clock);
        assert_eq!(guard.tries_left(), Some(2));
        for _ in 0..2 {
            guard.check(&CONTEXT, Some("wrong")).unwrap_err();
        }
        let right = proof(path.path());
        for guard in [&guard, &opened(path.path(), &clock)] {
            let error = guard.check(&CONTEXT, Some(&right)).unwrap_err();
            assert!(matches!(error, ProofError::Asleep(_)), "{error}");
            assert_eq!((guard.tries_left(), guard.asleep().is_some()), (Some(0), true));
        }
        // A clock that was set back makes it no longer; when the time is up it begins anew.
        clock.0.store(0, Ordering::Relaxed);
        assert!(opened(path.path(), &clock).asleep().unwrap() <= REST);
        clock.0.store(1_000_000 + 600_000, Ordering::Relaxed);
        let guard = opened(path.path(), &clock);
        assert_eq!(guard.tries_left(), Some(TRIES_MAX));
        guard.check(&CONTEXT, Some(&right)).unwrap();
    }

    #[test]
    fn damage_is_no_way_to_more_tries_and_the_owner_has_one() {
        let path = tempfile::tempdir().unwrap();
        let clock = Arc::new(Hand::default());
        let guard = opened(path.path(), &clock);
        guard.check(&CONTEXT, Some("wrong")).unwrap_err();
        std::fs::write(path.path().join(TRIES_FILE), "x").unwrap();
        let guard = opened(path.path(), &clock);
        assert!(guard.asleep().is_some());
        guard.begin_anew(false).unwrap();
        guard.check(&CONTEXT, Some(&proof(path.path()))).unwrap();
    }
}
