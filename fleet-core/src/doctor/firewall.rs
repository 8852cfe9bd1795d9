//! What this machine's firewall says about FleetD's ports, as far as its rules can be read: they are
//! shown to root alone.

use super::tool::{self, Said};
use super::{Check, Outcome};

const NAME: &str = "firewall";

/// A port that must be open from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// `udp` or `tcp`.
    pub protocol: &'static str,
}

/// mDNS.
pub const MDNS: Port = Port { number: 5353, protocol: "udp" };
/// An agent's.
pub const AGENT: Port = Port { number: crate::beacon::AGENT_PORT, protocol: "tcp" };

/// Looks through the rules that can be read.
pub async fn checks(ports: &[Port]) -> Vec<Check> {
    if !nix::unistd::geteuid().is_root() {
        return vec![Check::skipped(NAME, "only root can read its rules")];
    }
    let (ufw, nft, v4, v6) = tokio::join!(
        tool::ask("ufw", &["status"]),
        tool::ask("nft", &["-a", "list", "ruleset"]),
        tool::ask("iptables", &["-S", "INPUT"]),
        tool::ask("ip6tables", &["-S", "INPUT"]),
    );
    let good = |said: Option<Said>| said.filter(|said| said.is_good).map(|said| said.text);
    let (ufw, nft, v4, v6) = (good(ufw), good(nft), good(v4), good(v6));
    if ufw.is_none() && nft.is_none() && v4.is_none() && v6.is_none() {
        return vec![Check::skipped(NAME, "neither ufw nor nft nor iptables tells its rules here")];
    }
    let mut checks: Vec<Check> = Vec::new();
    for port in ports {
        let found = [
            ufw.as_deref().and_then(|text| of_ufw(text, *port)),
            nft.as_deref().and_then(|text| of_nft(text, *port)),
            v4.as_deref().and_then(|text| of_iptables("iptables", text, *port)),
            v6.as_deref().and_then(|text| of_iptables("ip6tables", text, *port)),
        ];
        checks.extend(found.into_iter().flatten());
    }
    if checks.is_empty() {
        let ports: Vec<String> = ports.iter().map(|port| port.shown()).collect();
        checks.push(Check::ok(NAME, format!("no rule is in the way of {}", ports.join(" and "))));
    }
    checks
}

impl Port {
    fn shown(self) -> String {
        format!("{}/{}", self.number, self.protocol)
    }

    /// Whether a rule's words name it.
    fn is_named_in(self, rule: &str) -> bool {
        let mut words = rule.split(|c: char| !c.is_ascii_alphanumeric());
        let number = self.number.to_string();
        words.any(|word| word == number) && rule.contains(self.protocol)
    }
}

/// `ufw status`: an active one lets in what is listed.
fn of_ufw(text: &str, port: Port) -> Option<Check> {
    if !text.lines().any(|line| line.trim() == "Status: active") {
        return None;
    }
    let number = port.number.to_string();
    let is_about = |line: &&str| {
        let to = line.split_whitespace().next().unwrap_or_default();
        to == number || to == port.shown()
    };
    let rule = text.lines().find(is_about);
    if rule.is_some_and(|rule| rule.contains("ALLOW") || rule.contains("LIMIT")) {
        return None;
    }
    let says = rule.map_or_else(
        || format!("ufw is active and has no rule that lets {} in", port.shown()),
        |rule| format!("ufw: {}", squeezed(rule)),
    );
    let fix = format!("sudo ufw allow {}", port.shown());
    let outcome = if rule.is_some() { Outcome::Failed } else { Outcome::Warning };
    Some(Check::new(NAME, outcome, says).fix(fix))
}

/// `nft -a list ruleset`: rules that drop or reject on the way in.
fn of_nft(text: &str, port: Port) -> Option<Check> {
    let (mut table, mut chain) = ("", "");
    for line in text.lines() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("table ") {
            table = rest.split(" {").next().unwrap_or_default();
        } else if let Some(rest) = line.strip_prefix("chain ") {
            chain = rest.split(" {").next().unwrap_or_default();
        } else if port.is_named_in(line) && (line.contains(" drop") || line.contains(" reject")) {
            let (rule, handle) = line.split_once(" # handle ").unwrap_or((line, "N"));
            let says = format!("nft, table {table}, chain {chain}: {rule}");
            let fix = format!("sudo nft delete rule {table} {chain} handle {handle}");
            return Some(Check::failed(NAME, says).fix(fix));
        }
    }
    None
}

/// `iptables -S INPUT`: the first rule that is about the port decides.
fn of_iptables(program: &str, text: &str, port: Port) -> Option<Check> {
    let rule = text.lines().find(|line| line.starts_with("-A ") && port.is_named_in(line));
    let Some(rule) = rule else {
        let is_closed = text.lines().any(|line| line.trim() == "-P INPUT DROP");
        let fix = format!(
            "sudo {program} -I INPUT -p {} --dport {} -j ACCEPT",
            port.protocol, port.number
        );
        let says =
            format!("{program} drops what no rule lets in, and none is about {}", port.shown());
        return is_closed.then(|| Check::warning(NAME, says).fix(fix));
    };
    let drops = ["-j DROP", "-j REJECT"].iter().any(|deed| rule.contains(deed));
    let fix = format!("sudo {program} {}", rule.replacen("-A ", "-D ", 1));
    drops.then(|| Check::failed(NAME, format!("{program}: {rule}")).fix(fix))
}

fn squeezed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fix(check: Option<Check>) -> Option<String> {
        check.and_then(|check| check.fix)
    }

    #[test]
    fn ufw_lets_in_what_it_lists() {
        let open = "Status: active\n\nTo         Action      From\n--         ------      ----\n\
             5353/udp                   ALLOW       Anywhere\n6789/tcp   DENY        Anywhere\n";
        assert_eq!(of_ufw(open, MDNS), None);
        assert_eq!(fix(of_ufw(open, AGENT)).as_deref(), Some("sudo ufw allow 6789/tcp"));
        assert!(of_ufw(open, AGENT).unwrap().has_failed());
        let closed = "Status: active\n";
        assert_eq!(fix(of_ufw(closed, MDNS)).as_deref(), Some("sudo ufw allow 5353/udp"));
        assert!(!of_ufw(closed, MDNS).unwrap().has_failed(), "another rule may let it in");
        assert_eq!(of_ufw("Status: inactive\n", MDNS), None);
    }

    #[test]
    fn nft_rules_are_named_with_what_takes_them_away() {
        let rules = "table inet filter { # handle 1\n\tchain input { # handle 2\n\
             \t\ttype filter hook input priority filter; policy accept;\n\
             \t\ttcp dport 6789 accept # handle 3\n\t\tudp dport 5353 drop # handle 4\n\t}\n}\n";
        let expected = "sudo nft delete rule inet filter input handle 4";
        assert_eq!(fix(of_nft(rules, MDNS)).as_deref(), Some(expected));
        assert_eq!(of_nft(rules, AGENT), None);
        assert_eq!(of_nft("", MDNS), None);
    }

    #[test]
    fn iptables_rules_go_the_way_they_came() {
        let rules = "-P INPUT ACCEPT\n-A INPUT -p udp -m udp --dport 5353 -j DROP\n\
             -A INPUT -p tcp -m tcp --dport 6789 -j ACCEPT\n\
             -A INPUT -p tcp -m tcp --dport 6789 -j DROP\n";
        let expected = "sudo iptables -D INPUT -p udp -m udp --dport 5353 -j DROP";
        assert_eq!(fix(of_iptables("iptables", rules, MDNS)).as_deref(), Some(expected));
        assert_eq!(of_iptables("iptables", rules, AGENT), None);
        let closed = of_iptables("iptables", "-P INPUT DROP\n", AGENT);
        let expected = "sudo iptables -I INPUT -p tcp --dport 6789 -j ACCEPT";
        assert_eq!(fix(closed).as_deref(), Some(expected));
        let other = "-P INPUT ACCEPT\n-A INPUT -p udp -m udp --dport 15353 -j DROP\n";
        assert_eq!(of_iptables("iptables", other, MDNS), None);
    }
}
