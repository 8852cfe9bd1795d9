//! Which devices `fleets configure` is to bring in, which not and why, and how the outcome of each
//! is told.

use std::collections::BTreeSet;

use serde::Serialize;

use super::failure::Failure;
use super::listed::{Listed, Reader};
use super::output::Output;
use super::table::{Cell, Column};
use crate::api::{Device, DiscoverOutcome, Discovered};
use crate::id::DeviceId;
use crate::identity::ServerIdentity;
use crate::operator::browse::Sighting;
use crate::operator::claim::Target;
use crate::operator::provision::Outcome;
use crate::operator::standing::{self, Standing};
use crate::untrusted::Untrusted;

pub(super) fn is_named(sighting: &Sighting, named: &[DeviceId]) -> bool {
    sighting.device.device_id.as_ref().is_some_and(|id| named.contains(id))
}

pub(super) fn missing(sightings: &[Sighting], named: &[DeviceId]) -> Vec<DeviceId> {
    let seen: BTreeSet<_> =
        sightings.iter().filter_map(|sighting| sighting.device.device_id.as_ref()).collect();
    named.iter().filter(|id| !seen.contains(id)).cloned().collect()
}

/// What is to be done, and what is known already not to be.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) go: Vec<(Untrusted, Target)>,
    pub(super) done: Vec<Configured>,
    pub(super) notes: Vec<String>,
    /// Those that say they belong to this server; it has to confirm that.
    pub(super) ours: Vec<Discovered>,
}

impl Plan {
    pub(super) fn of_chosen(sightings: &[Sighting], places: &[usize], missing: Missing) -> Self {
        let mut plan = Self::default();
        for sighting in places.iter().filter_map(|place| sightings.get(*place)) {
            plan.add(sighting);
        }
        plan.add_missing(missing);
        plan
    }

    /// Only what nobody has claimed; of the rest, what was named counts as not done.
    pub(super) fn automatic(
        sightings: &[Sighting],
        ours: ServerIdentity,
        named: &[DeviceId],
        missing: Missing,
    ) -> Self {
        let mut plan = Self::default();
        for sighting in sightings {
            match Standing::of(sighting, Some(ours)) {
                Standing::Ours => plan.ours.push(sighting.device.clone()),
                standing @ Standing::Foreign(_) if !is_named(sighting, named) => {
                    let name = &sighting.device.name;
                    plan.notes.extend(
                        standing.why_not().map(|no| format!("{name} left alone: {}", no.reason)),
                    );
                }
                standing => plan.add_if(sighting, standing),
            }
        }
        plan.add_missing(missing);
        plan
    }

    /// A device that somebody chose: it is asked itself whatever it announces, if that is possible.
    fn add(&mut self, sighting: &Sighting) {
        self.add_if(
            sighting,
            match &sighting.target {
                Some(_) => Standing::New,
                None if sighting.device.conflict => Standing::Conflict,
                None => Standing::Nameless,
            },
        );
    }

    fn add_if(&mut self, sighting: &Sighting, standing: Standing) {
        match standing.why_not() {
            None => {
                let target = sighting.target.clone();
                self.go.extend(target.map(|target| (sighting.device.name.clone(), target)));
            }
            Some(no) => {
                let hint = no.hint.map(str::to_owned);
                self.done.push(Configured::refused(sighting, no.reason, hint));
            }
        }
    }

    fn add_missing(&mut self, missing: Missing) {
        let others = missing.others;
        self.done.extend(missing.ids.into_iter().map(|id| Configured {
            name: Untrusted::from(id.as_str()),
            reason: Some(nobody_of_id(&id, others)),
            device_id: Some(id),
            status: DiscoverOutcome::Unreachable,
            hint: None,
        }));
    }

    /// Compares what devices say of belonging here with the server's own list.
    pub(super) fn confirm_ours(&mut self, list: &[Device]) {
        for seen in std::mem::take(&mut self.ours) {
            let known = list
                .iter()
                .find(|known| seen.fingerprint.is_some() && known.fingerprint == seen.fingerprint);
            match told_apart(&seen, known) {
                Some(not_done) => self.done.push(not_done),
                None => self.notes.push(format!("{} belongs to this server already", seen.name)),
            }
        }
    }

    /// Takes the devices' word, where the key may not ask the server.
    pub(super) fn believe_ours(&mut self) {
        for seen in std::mem::take(&mut self.ours) {
            self.notes.push(format!("{} says it belongs to this server already", seen.name));
        }
    }
}

/// Named devices that did not answer, and how many others did.
#[derive(Default)]
pub(super) struct Missing {
    pub(super) ids: Vec<DeviceId>,
    pub(super) others: usize,
}

/// That a named device is not there.
pub(super) fn nobody_of_id(id: &DeviceId, others: usize) -> String {
    match others {
        0 => format!("no device {id} answered"),
        _ => format!("no device {id} answered; {others} other(s) did"),
    }
}

/// What still has to be done for a device that says it belongs here; nothing if it does.
fn told_apart(seen: &Discovered, known: Option<&Device>) -> Option<Configured> {
    let not_done = standing::unconfirmed(known.map(|known| (&known.id, known.status)))?;
    Some(Configured {
        device_id: known.map(|known| known.id.clone()).or_else(|| seen.device_id.clone()),
        name: seen.name.clone(),
        status: not_done.status,
        reason: Some(not_done.reason.to_owned()),
        hint: Some(not_done.hint),
    })
}

/// What became of one device.
#[derive(Debug, Serialize)]
pub(super) struct Configured {
    pub(super) device_id: Option<DeviceId>,
    pub(super) name: Untrusted,
    pub(super) status: DiscoverOutcome,
    pub(super) reason: Option<String>,
    pub(super) hint: Option<String>,
}

impl Configured {
    pub(super) fn refused(
        sighting: &Sighting,
        reason: impl Into<String>,
        hint: Option<String>,
    ) -> Self {
        Self {
            device_id: sighting.device.device_id.clone(),
            name: sighting.device.name.clone(),
            status: DiscoverOutcome::Refused,
            reason: Some(reason.into()),
            hint,
        }
    }

    pub(super) fn from_outcome(name: &Untrusted, target: &Target, outcome: Outcome) -> Self {
        Self {
            device_id: outcome.device_id.or_else(|| Some(target.device_id.clone())),
            name: name.clone(),
            status: outcome.status,
            reason: outcome.reason,
            hint: outcome.hint,
        }
    }

    pub(super) fn tell(&self, output: &mut Output<'_>) -> Result<(), Failure> {
        if !output.format.is_table() {
            return Ok(());
        }
        let name = &self.name;
        let reason = self.reason.as_deref().unwrap_or("no reason given");
        output.line(&match self.status {
            DiscoverOutcome::Configured => format!("✅ Successfully configured {name}"),
            DiscoverOutcome::Pending => format!("⏳ {name}: {reason}"),
            DiscoverOutcome::Unreachable | DiscoverOutcome::Refused => {
                format!("✗ {name}: {reason}")
            }
        })?;
        if let Some(hint) = &self.hint {
            output.line(&format!("   {hint}"))?;
        }
        Ok(())
    }
}

impl Listed for Configured {
    const COLUMNS: &'static [Column] = &[
        Column::new("DEVICE ID", 20),
        Column::new("STATUS", 11),
        Column::new("REASON", 40),
        Column::new("HINT", 20),
        Column::new("NAME", 20),
    ];

    fn cells(&self, _reader: Reader) -> Vec<Cell> {
        vec![
            Cell::maybe(self.device_id.as_ref()),
            Cell::new(match self.status {
                DiscoverOutcome::Configured => "configured",
                DiscoverOutcome::Pending => "pending",
                DiscoverOutcome::Unreachable => "unreachable",
                DiscoverOutcome::Refused => "refused",
            }),
            Cell::maybe(self.reason.as_ref()),
            Cell::maybe(self.hint.as_ref()),
            Cell::new(&self.name),
        ]
    }

    fn name(&self) -> String {
        self.device_id.as_ref().map_or_else(|| self.name.to_string(), ToString::to_string)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{ClaimMode, DeviceState};
    use crate::cli::discover;
    use crate::identity::{Fingerprint, PrivateKey};

    fn identity(seed: u8) -> ServerIdentity {
        PrivateKey::from_seed(&[seed; 32]).public().identity()
    }

    pub(in crate::cli) fn sighting(id: &str, state: DeviceState) -> Sighting {
        let device = discover::example(id, state);
        let target = device.fingerprint.map(|fingerprint| Target {
            device_id: id.parse().unwrap(),
            addresses: Vec::new(),
            fingerprint,
            claim: device.claim,
        });
        Sighting { device, target }
    }

    fn in_conflict(id: &str) -> Sighting {
        let mut sighting = sighting(id, DeviceState::Unclaimed);
        sighting.device.conflict = true;
        sighting.target = None;
        sighting
    }

    fn claimed(id: &str, server: ServerIdentity) -> Sighting {
        let mut sighting = sighting(id, DeviceState::Claimed);
        sighting.device.server = Some(server);
        sighting
    }

    /// A device as the server knows it.
    fn known(id: &str, status: &str, fingerprint: Option<Fingerprint>) -> Device {
        serde_json::from_value(json!({
            "id": id, "name": id, "type": "x86", "version": "0.1.0", "status": status,
            "last_seen": null, "why": "", "uid": "018d0000-0000-7000-8000-000000000000",
            "fingerprint": fingerprint, "metadata": {}, "created_at": "2024-01-15T10:30:00Z",
            "facts": {"hostname": "", "model": "", "os": "", "kernel": "", "arch": "", "cores": 4,
                "memory_bytes": null, "addresses": [], "interval_secs": 60},
            "missed_reports": 0, "config_version": 0, "config_reported": null, "latest": null
        }))
        .unwrap()
    }

    fn going(plan: &Plan) -> Vec<&str> {
        plan.go.iter().map(|(_, target)| target.device_id.as_str()).collect()
    }

    #[test]
    fn auto_takes_what_nobody_has_claimed_and_says_what_it_leaves() {
        let sightings = [
            sighting("free", DeviceState::Unclaimed),
            sighting("closed", DeviceState::Closed),
            in_conflict("twice"),
            claimed("mine", identity(1)),
            claimed("theirs", identity(2)),
        ];
        let plan = Plan::automatic(&sightings, identity(1), &[], Missing::default());
        assert_eq!(going(&plan), ["free"]);
        let refused: Vec<_> =
            plan.done.iter().filter_map(|device| device.device_id.as_ref()).collect();
        assert_eq!(refused.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["closed", "twice"]);
        assert_eq!((plan.notes.len(), plan.ours.len()), (1, 1));

        let named = ["theirs".parse().unwrap()];
        let plan = Plan::automatic(&sightings[4..], identity(1), &named, Missing::default());
        let reason = plan.done[0].reason.clone().unwrap();
        assert_eq!(reason, format!("already managed by {}", identity(2)));
    }

    #[test]
    fn a_conflict_is_not_configured_even_if_chosen() {
        let sightings = [in_conflict("twice"), sighting("free", DeviceState::Unclaimed)];
        let missing = Missing { ids: vec!["gone".parse().unwrap()], others: 2 };
        let plan = Plan::of_chosen(&sightings, &[0, 1], missing);
        assert_eq!(going(&plan), ["free"]);
        assert_eq!(plan.done.len(), 2);
        assert_eq!(plan.done[1].status, DiscoverOutcome::Unreachable);
        let reason = plan.done[1].reason.as_deref();
        assert_eq!(reason, Some("no device gone answered; 2 other(s) did"));
    }

    #[test]
    fn what_is_ours_is_for_the_server_to_say() {
        for (status, expected) in [
            (Some("online"), None),
            (Some("offline"), None),
            (Some("pending"), Some(DiscoverOutcome::Pending)),
            (Some("rejected"), Some(DiscoverOutcome::Refused)),
            (Some("revoked"), Some(DiscoverOutcome::Refused)),
            (None, Some(DiscoverOutcome::Pending)),
        ] {
            let mine = claimed("mine", identity(1));
            let fingerprint = mine.device.fingerprint;
            let list: Vec<_> = status
                .map(|status| known("mine~k3xq2m", status, fingerprint))
                .into_iter()
                .collect();
            let mut plan = Plan::automatic(&[mine], identity(1), &[], Missing::default());
            plan.confirm_ours(&list);
            let found = plan.done.first();
            assert_eq!(found.map(|device| device.status), expected, "{status:?}");
            assert_eq!(plan.notes.len(), usize::from(expected.is_none()));
            if status == Some("pending") {
                let hint = found.and_then(|device| device.hint.as_deref());
                assert_eq!(hint, Some("fleets devices accept mine~k3xq2m"));
            }
        }
    }

    #[test]
    fn a_policy_and_a_window_that_is_over_have_their_own_hints() {
        let hint = |claim| {
            let mut shut = sighting("shut", DeviceState::Closed);
            shut.device.claim = Some(claim);
            let plan = Plan::automatic(&[shut], identity(1), &[], Missing::default());
            plan.done[0].hint.clone().unwrap()
        };
        assert!(hint(ClaimMode::Disabled).contains("policy.yaml"));
        assert!(hint(ClaimMode::Open).contains("restart its agent"));
    }
}
