//! What a CNI plugin prints: results, errors and versions, as functions from bytes to values, so that they can be fuzzed.
//!
//! Results are read strictly, in the formats 0.3.0 to 1.0.0. An error in the form of CNI is a [`Complaint`], whose kind is
//! found in one table.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use crate::address::{Family, parse_address};
use crate::operation::{Kind, Refusal};
use crate::sut::Failure;
use crate::sut::protocol::excerpt;

/// Versions of CNI whose results are understood, best first.
pub const VERSIONS: [&str; 4] = ["1.0.0", "0.4.0", "0.3.1", "0.3.0"];

/// The best version that is both in the answer to VERSION and understood.
pub fn best_version(stdout: &[u8]) -> Option<&'static str> {
    let answer: Value = serde_json::from_slice(stdout).unwrap_or_default();
    let supported = answer.get("supportedVersions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    VERSIONS.into_iter().find(|version| supported.iter().any(|found| found == version))
}

/// An error in the form of CNI.
#[derive(Debug)]
pub struct Complaint {
    code: u64,
    text: String,
}

/// What an ADD gave.
pub struct Added {
    /// One address a range set, in their order.
    pub addresses: Vec<IpAddr>,
    /// The result as it was, to be handed back later.
    pub json: Value,
}

impl Complaint {
    /// Reads the error that a plugin printed, if that is what it is.
    pub fn parse(stdout: &[u8]) -> Option<Complaint> {
        let error: Value = serde_json::from_slice(stdout).ok()?;
        let code = error.get("code")?.as_u64().filter(|code| *code != IN_DOUBT)?;
        let message = error.get("msg")?.as_str()?;
        let text = match error.get("details").and_then(Value::as_str) {
            Some(details) if !details.is_empty() => format!("{message}: {details}"),
            _ => message.to_owned(),
        };
        Some(Complaint { code, text })
    }

    /// Nobody knows whether it happened.
    pub(super) fn in_doubt(text: &str) -> Complaint {
        Complaint { code: IN_DOUBT, text: text.to_owned() }
    }

    pub(super) fn is_in_doubt(&self) -> bool {
        self.code == IN_DOUBT
    }

    /// Is it about files, or about nothing that is known? Then it tells of a file that failed.
    pub(super) fn is_of_files(&self) -> bool {
        let kind = kind_of_code(self.code).or_else(|| kind_of_text(&self.text));
        kind.is_none_or(|kind| kind == Kind::Storage)
    }

    /// What it says.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Code and text, for a message.
    pub fn shown(&self) -> String {
        format!("code {}, {}", self.code, excerpt(self.text.as_bytes()))
    }

    /// As a refusal, of the kind `otherwise` where neither code nor text says one.
    pub fn refusal(self, otherwise: Kind) -> Refusal {
        let kind = kind_of_code(self.code).or_else(|| kind_of_text(&self.text)).unwrap_or(otherwise);
        Refusal { kind, message: self.text.into() }
    }
}

/// A code of our own, which no plugin may give.
const IN_DOUBT: u64 = u64::MAX;

/// Codes below 100 belong to CNI.
fn kind_of_code(code: u64) -> Option<Kind> {
    match code {
        IN_DOUBT => Some(Kind::UnknownOutcome),
        2 => Some(Kind::Unsupported),
        3 => Some(Kind::NotFound),
        // Environment, decoding and configuration: what we sent.
        4 | 6 | 7 => Some(Kind::Invalid),
        5 => Some(Kind::Storage),
        11 | 50 | 51 => Some(Kind::Busy),
        _ => None,
    }
}

/// The first text that occurs decides: what plugins say under codes of their own, such as
/// host-local's 999 for everything.
const KINDS_BY_TEXT: [(&str, Kind); 22] = [
    // A result that could not be written: the plugin made it itself.
    ("error calling Marshal", Kind::Internal),
    ("no IP addresses available in range set", Kind::Exhausted),
    ("is not available in range set", Kind::Conflict),
    ("duplicate allocation is not allowed", Kind::Conflict),
    ("failed to allocate all requested IPs", Kind::Invalid),
    ("is subnet's gateway", Kind::Invalid),
    ("not in range set", Kind::Invalid),
    ("invalid range set", Kind::Invalid),
    ("cannot understand ip", Kind::Invalid),
    ("invalid IP address", Kind::Invalid),
    ("invalid CIDR address", Kind::Invalid),
    ("no IP ranges specified", Kind::Invalid),
    ("overlaps with", Kind::Invalid),
    ("json: cannot unmarshal", Kind::Invalid),
    ("no space left on device", Kind::Storage),
    ("permission denied", Kind::Storage),
    ("input/output error", Kind::Storage),
    ("read-only file system", Kind::Storage),
    // In other plugins' words.
    ("exhausted", Kind::Exhausted),
    ("no available", Kind::Exhausted),
    ("already allocated", Kind::Conflict),
    ("already in use", Kind::Conflict),
];

fn kind_of_text(text: &str) -> Option<Kind> {
    KINDS_BY_TEXT.into_iter().find(|(part, _)| text.contains(part)).map(|(_, kind)| kind)
}

/// Reads the result of an ADD that asked for one address of each of these prefixes.
pub fn granted(version: &str, stdout: &[u8], prefixes: &[IpNet]) -> Result<Added, Failure> {
    let wrong = |problem: String| Failure::total(format!("ADD gave a wrong result: {problem}: {}", excerpt(stdout)));
    let json: Value = serde_json::from_slice(stdout).map_err(|error| wrong(format!("it is no JSON ({error})")))?;
    if json.get("cniVersion").and_then(Value::as_str) != Some(version) {
        return Err(wrong(format!("`cniVersion` is not {version}")));
    }
    let Some(ips) = json.get("ips").and_then(Value::as_array) else {
        return Err(wrong("`ips` is no list".to_owned()));
    };
    if ips.len() != prefixes.len() {
        return Err(wrong(format!("{} range sets were granted {} addresses", prefixes.len(), ips.len())));
    }
    let addresses = ips.iter().zip(prefixes).map(|(ip, prefix)| granted_address(version, ip, *prefix));
    let addresses = addresses.collect::<Result<_, String>>().map_err(wrong)?;
    Ok(Added { addresses, json })
}

fn granted_address(version: &str, ip: &Value, prefix: IpNet) -> Result<IpAddr, String> {
    let text = ip.get("address").and_then(Value::as_str).ok_or("`address` is no string")?;
    let shown = excerpt(text.as_bytes());
    let (address, length) = text.split_once('/').ok_or_else(|| format!("`{shown}` has no prefix length"))?;
    let address = parse_address(address).ok_or_else(|| format!("`{shown}` holds no address"))?;
    if Family::of(address) != Family::of(prefix.addr()) {
        return Err(format!("`{shown}` is not of the family of {prefix}"));
    }
    if length != prefix.prefix_len().to_string() {
        return Err(format!("`{shown}` has not the prefix length of {prefix}"));
    }
    let family = if address.is_ipv4() { "4" } else { "6" };
    if version.starts_with("0.") && ip.get("version").and_then(Value::as_str) != Some(family) {
        return Err(format!("`version` of `{shown}` is not \"{family}\""));
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn add(version: &str, ips: &str, prefixes: &[&str]) -> Result<Vec<IpAddr>, String> {
        let prefixes: Vec<IpNet> = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
        let result = format!(r#"{{"cniVersion":"{version}","ips":{ips},"dns":{{}}}}"#);
        let added = granted(version, result.as_bytes(), &prefixes);
        added.map(|added| added.addresses).map_err(|failure| failure.to_string())
    }

    #[test]
    fn results_of_all_formats_are_read() {
        let both = ["10.0.0.0/29", "fd00::/64"];
        let expected: [IpAddr; 2] = ["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let new = r#"[{"address":"10.0.0.2/29","gateway":"10.0.0.1"},{"address":"fd00::2/64"}]"#;
        assert_eq!(add("1.0.0", new, &both).unwrap(), expected);
        let old = r#"[{"version":"4","address":"10.0.0.2/29"},{"version":"6","address":"fd00::2/64"}]"#;
        assert_eq!(add("0.3.1", old, &both).unwrap(), expected);
        assert!(add("0.3.1", new, &both).unwrap_err().contains("`version` of"));
    }

    #[test]
    fn wrong_results_are_found_out() {
        for (ips, expected) in [
            ("[]", "1 range sets were granted 0 addresses"),
            ("{}", "`ips` is no list"),
            (r#"[{}]"#, "`address` is no string"),
            (r#"[{"address":"10.0.0.2"}]"#, "no prefix length"),
            (r#"[{"address":"10.0.0.2/24"}]"#, "not the prefix length of 10.0.0.0/29"),
            (r#"[{"address":"10.0.0.2/029"}]"#, "not the prefix length"),
            (r#"[{"address":"10.0.0.299/29"}]"#, "holds no address"),
            (r#"[{"address":"fd00::2/29"}]"#, "not of the family"),
        ] {
            let message = add("1.0.0", ips, &["10.0.0.0/29"]).unwrap_err();
            assert!(message.contains(expected), "{message} lacks {expected}");
        }
        assert!(granted("1.0.0", b"{}", &[]).is_err());
        assert!(granted("1.0.0", b"\xff", &[]).is_err());
    }

    #[test]
    fn complaints_have_kinds_by_code_then_by_text() {
        let kind = |code: u64, text: &str| {
            let json = json!({ "code": code, "msg": text }).to_string();
            Complaint::parse(json.as_bytes()).unwrap().refusal(Kind::Internal).kind
        };
        assert_eq!(kind(7, "no IP addresses available in range set"), Kind::Invalid);
        assert_eq!(kind(11, ""), Kind::Busy);
        assert_eq!(
            kind(999, "failed to allocate for range 0: no IP addresses available in range set: x"),
            Kind::Exhausted
        );
        assert_eq!(kind(999, "requested IP address 10.0.0.2 is not available in range set x"), Kind::Conflict);
        let marshal = "json: error calling MarshalText for type net.IP: address 01: invalid IP address";
        assert_eq!(kind(999, marshal), Kind::Internal);
        assert_eq!(kind(999, "something new"), Kind::Internal);
        assert!(Complaint::parse(br#"{"code":"7","msg":""}"#).is_none());
    }
}
