//! The CNI adapter against host-local, where it is installed, and against plugins that misbehave.
//!
//! Without host-local its tests print `skipped`; with POOLPROOF_REQUIRE_CNI set they fail instead.
#![cfg(all(feature = "process", feature = "cli"))]

mod common;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::has_python;
use poolproof::address::Grant;
use poolproof::engine::examine::Examiner;
use poolproof::operation::{Answer, Kind, Method, Operation, PoolShape, Refusal, Request, Response, Want, Written};
use poolproof::property::Property;
use poolproof::scenario::{parse, text};
use poolproof::sut::cni::Cni;
use poolproof::sut::{Failure, Sut};

const HOST_LOCAL: &str = "/usr/lib/cni/host-local";
const TIMEOUT: Duration = Duration::from_secs(1);

fn host_local() -> Option<Cni> {
    let path = PathBuf::from(HOST_LOCAL);
    if path.exists() {
        return Some(Cni::new(path).unwrap());
    }
    assert!(std::env::var_os("POOLPROOF_REQUIRE_CNI").is_none(), "{HOST_LOCAL} is not installed");
    println!("skipped: {HOST_LOCAL} is not installed");
    None
}

fn pool(name: &str, prefix: &str, gateway: &str, ranges: &[(&str, &str)]) -> Operation {
    let ranges = ranges.iter().map(|(first, last)| (text(first), text(last))).collect();
    let shape = PoolShape { ranges, gateway: Some(text(gateway)), exclude: Vec::new() };
    Operation::CreatePool { pool: text(name), prefix: text(prefix), shape }
}

/// Requests as pairs of pool and address; an empty address asks for any.
fn allocate(owner: &str, requests: &[(&str, &str)]) -> Operation {
    let request = |(pool, address): &(&str, &str)| Request {
        pool: text(pool),
        want: if address.is_empty() { Want::Any } else { Want::Named(Written::Odd(text(address))) },
    };
    Operation::Allocate { owner: text(owner), requests: requests.iter().map(request).collect(), ttl_ms: None }
}

fn release(pool: &str, address: &str, owner: &str) -> Operation {
    Operation::Release { pool: text(pool), address: Written::Odd(text(address)), owner: Some(text(owner)) }
}

fn call(system: &mut Cni, operation: &Operation) -> Response {
    system.call(operation).unwrap_or_else(|failure| panic!("{operation:?}: {failure}"))
}

fn kind(system: &mut Cni, operation: &Operation) -> Kind {
    match call(system, operation) {
        Ok(answer) => panic!("{operation:?} gave {answer:?}"),
        Err(Refusal { kind, .. }) => kind,
    }
}

fn granted(system: &mut Cni, operation: &Operation) -> String {
    match call(system, operation) {
        Ok(Answer::Granted { grants, .. }) => grants.iter().map(Grant::to_string).collect::<Vec<_>>().join(" "),
        other => panic!("{operation:?} gave {other:?}"),
    }
}

fn listed(system: &mut Cni) -> Vec<String> {
    let Ok(Answer::Listed(allocations)) = call(system, &Operation::List { pool: None }) else { panic!("no list") };
    let shown = allocations.iter().map(|held| format!("{} {} {}", held.pool, held.address, held.owner));
    let mut shown: Vec<_> = shown.collect();
    shown.sort();
    shown
}

#[test]
fn host_local_serves_a_scenario() {
    let Some(mut system) = host_local() else { return };
    let system = &mut system;
    system.reset().unwrap();
    assert_eq!(call(system, &pool("p0", "10.0.0.0/29", "10.0.0.1", &[])), Ok(Answer::Done));
    assert_eq!(call(system, &pool("p1", "fd00::/125", "fd00::1", &[])), Ok(Answer::Done));
    // Network, broadcast and gateway stay behind.
    let five: Vec<_> = (0..5).map(|_| granted(system, &allocate("a", &[("p0", "")]))).collect();
    assert_eq!(five, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
    assert_eq!(kind(system, &allocate("b", &[("p0", "")])), Kind::Exhausted);
    assert_eq!(kind(system, &allocate("b", &[("p1", ""), ("p0", "")])), Kind::Exhausted);
    assert_eq!(listed(system).len(), 5, "a refused call left something");
    assert_eq!(kind(system, &allocate("b", &[("p0", "10.0.0.4")])), Kind::Conflict);
    assert_eq!(kind(system, &release("p0", "10.0.0.4", "b")), Kind::NotOwner);
    assert_eq!(call(system, &release("p0", "10.0.0.4", "a")), Ok(Answer::Done));
    assert_eq!(granted(system, &allocate("b; drop", &[("p0", "10.0.0.4"), ("p1", "")])), "10.0.0.4 fd00::2");
    // A stale release must not free what is another's by now.
    assert_eq!(kind(system, &release("p0", "10.0.0.4", "a")), Kind::NotOwner);
    assert_eq!(kind(system, &release("p0", "10.0.0.4", "b; drop")), Kind::Unsupported);
    assert_eq!(listed(system)[2], "p0 10.0.0.4 b; drop");
    assert_eq!(kind(system, &Operation::DeletePool { pool: text("p0") }), Kind::InUse);
    for (owner, count) in [("a", 4), ("b; drop", 2), ("nobody", 0)] {
        let Ok(Answer::Released(released)) = call(system, &Operation::ReleaseOwner { owner: text(owner) }) else {
            panic!("{owner} is not released")
        };
        assert_eq!(released.len(), count);
    }
    assert_eq!(listed(system), Vec::<String>::new());
    assert_eq!(call(system, &release("p0", "10.0.0.4", "a")), Ok(Answer::Done));
    assert_eq!(call(system, &Operation::DeletePool { pool: text("p0") }), Ok(Answer::Done));
    assert_eq!(kind(system, &allocate("a", &[("p0", "")])), Kind::NotFound);
    system.finish().unwrap();
    system.reset().unwrap();
    assert_eq!(kind(system, &allocate("a", &[("p1", "")])), Kind::NotFound);
}

#[test]
fn host_local_judges_pools_and_the_adapter_what_it_cannot() {
    let Some(mut system) = host_local() else { return };
    let system = &mut system;
    assert_eq!(call(system, &pool("p0", "10.0.0.0/24", "10.0.0.1", &[])), Ok(Answer::Done));
    let bad_prefixes = ["10.1.0.1/24", "10.1.0.0/08", "10.1.0.0", "10.1.0.0/31", "10.1.0.0/33", "", "x", "fd00::/127"];
    for prefix in bad_prefixes {
        assert_eq!(kind(system, &pool("p1", prefix, "10.1.0.1", &[])), Kind::Invalid, "{prefix}");
    }
    for gateway in ["10.2.0.1", "fd00::1", "", "010.1.0.1", "10.1.0.1/24"] {
        assert_eq!(kind(system, &pool("p1", "10.1.0.0/24", gateway, &[])), Kind::Invalid, "{gateway}");
    }
    for range in [("10.1.0.9", "10.1.0.8"), ("10.1.0.9", "10.2.0.1"), ("", ""), ("fd00::2", "fd00::3")] {
        assert_eq!(kind(system, &pool("p1", "10.1.0.0/24", "10.1.0.1", &[range])), Kind::Invalid, "{range:?}");
    }
    let overlapping = [("10.1.0.2", "10.1.0.9"), ("10.1.0.9", "10.1.0.12")];
    assert_eq!(kind(system, &pool("p1", "10.1.0.0/24", "10.1.0.1", &overlapping)), Kind::Invalid);
    assert_eq!(kind(system, &pool("p0", "10.1.0.0/24", "10.1.0.1", &[])), Kind::Conflict);
    assert_eq!(kind(system, &pool("p1", "10.0.0.128/25", "10.0.0.129", &[])), Kind::Conflict);
    assert_eq!(kind(system, &pool("", "10.1.0.0/24", "10.1.0.1", &[])), Kind::Invalid);
    for (prefix, expected) in [("10.1.0.0/24", Kind::Unsupported), ("fd09::/129", Kind::Invalid)] {
        let shape = PoolShape::default();
        let without_gateway = Operation::CreatePool { pool: text("p1"), prefix: text(prefix), shape };
        assert_eq!(kind(system, &without_gateway), expected);
    }
}

#[test]
fn host_local_takes_ranges_at_their_word_but_for_the_edges() {
    let Some(mut system) = host_local() else { return };
    let system = &mut system;
    let ranges = [("10.0.0.0", "10.0.0.1"), ("10.0.0.3", "10.0.0.3"), ("10.0.0.6", "10.0.0.7")];
    call(system, &pool("p0", "10.0.0.0/29", "10.0.0.1", &ranges)).unwrap();
    let any = allocate("a", &[("p0", "")]);
    assert_eq!([granted(system, &any), granted(system, &any)], ["10.0.0.3", "10.0.0.6"]);
    assert_eq!(kind(system, &any), Kind::Exhausted);
    call(system, &pool("p1", "10.1.0.0/29", "10.1.0.1", &[("10.1.0.0", "10.1.0.0")])).unwrap();
    assert_eq!(kind(system, &allocate("a", &[("p1", "")])), Kind::Exhausted);
    assert_eq!(kind(system, &allocate("a", &[("p1", "10.1.0.0")])), Kind::Invalid);
}

#[test]
fn host_local_and_odd_spellings() {
    let Some(mut system) = host_local() else { return };
    let system = &mut system;
    call(system, &pool("p0", "10.0.0.0/29", "10.0.0.1", &[])).unwrap();
    call(system, &pool("p1", "fd00::/64", "fd00::1", &[])).unwrap();
    let odd = [
        "010.0.0.5",
        " 10.0.0.5",
        "10.0.0.5/32",
        "::ffff:10.0.0.5",
        "10.0.0.5%eth0",
        "fd00::5",
        "10.0.0.9",
        "10.0.0.1",
        "10.0.0.0",
        "10.0.0.7",
        "",
        "x",
        "\0",
        "'; --",
    ];
    for spelling in odd.into_iter().filter(|spelling| !spelling.is_empty()) {
        assert_eq!(kind(system, &allocate("a", &[("p0", spelling)])), Kind::Invalid, "{spelling}");
    }
    // Named for the wrong pool of two, where CNI would just take it for the right one.
    assert_eq!(kind(system, &allocate("a", &[("p0", "fd00::5"), ("p1", "10.0.0.5")])), Kind::Invalid);
    assert_eq!(listed(system), Vec::<String>::new());
    // The same where the other pool's address is held, and with spellings of what is held.
    assert_eq!(granted(system, &allocate("b", &[("p0", "10.0.0.5")])), "10.0.0.5");
    for requests in [&[("p0", ""), ("p1", "10.0.0.5")][..], &[("p0", "10.0.0.5/32")], &[("p0", "::ffff:10.0.0.5")]] {
        assert_eq!(kind(system, &allocate("a", requests)), Kind::Invalid, "{requests:?}");
    }
    assert_eq!(call(system, &release("p0", "10.0.0.5", "b")), Ok(Answer::Done));
    for (spelling, address) in [("FD00::5", "fd00::5"), ("fd00:0:0:0:0:0:0:6", "fd00::6"), ("fd00::0.0.0.7", "fd00::7")]
    {
        assert_eq!(granted(system, &allocate("a", &[("p1", spelling), ("p0", "")])).split(' ').next(), Some(address));
    }
    assert_eq!(kind(system, &allocate("b", &[("p1", "FD00:0::7")])), Kind::Conflict);
    // CNI takes a prefix for an address; that it is held does not make the text any better.
    assert_eq!(kind(system, &allocate("b", &[("p1", "fd00::7/128")])), Kind::Invalid);
    assert_eq!(kind(system, &allocate("b", &[("p0", ""), ("p0", "")])), Kind::Unsupported);
    assert_eq!(kind(system, &allocate("", &[("p0", "")])), Kind::Invalid);
    assert_eq!(kind(system, &allocate("b", &[])), Kind::Invalid);
}

/// A plugin that answers VERSION properly and does `body` on every other command.
struct Fake {
    home: tempfile::TempDir,
}

impl Fake {
    fn new(body: &str) -> Fake {
        let home = tempfile::tempdir().unwrap();
        let versions = r#"{"cniVersion":"1.0.0","supportedVersions":["0.1.0","0.4.0","1.0.0"]}"#;
        let script = format!(
            "#!/bin/sh\ncat > /dev/null\n[ $CNI_COMMAND = VERSION ] && {{ echo '{versions}'; exit 0; }}\n\
             echo \"$$ ${{CNI_NETNS%/*}}\" >> '{}'\n{body}\n",
            home.path().join("trace").display()
        );
        Fake::program(home, &script)
    }

    /// The same as a whole program.
    fn program(home: tempfile::TempDir, script: &str) -> Fake {
        // Written by another process: while this one holds the file open for writing, a fork in
        // another test's thread would hold it too, and then it cannot be executed.
        let path = home.path().join("plugin");
        let mut writer = Command::new("sh");
        let mut writer = writer.args(["-c", "cat > \"$0\" && chmod 755 \"$0\""]).arg(&path);
        writer = writer.stdin(Stdio::piped());
        let mut writer = writer.spawn().unwrap();
        writer.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(writer.wait().unwrap().success());
        Fake { home }
    }

    fn start(&self) -> Cni {
        Cni::with_timeout(self.home.path().join("plugin"), TIMEOUT).unwrap()
    }

    fn assert_nothing_is_left(&self) {
        let trace = std::fs::read_to_string(self.home.path().join("trace")).unwrap();
        let listed = Command::new("ps").args(["-A", "-o", "pgid=,stat="]).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        for (group, directory) in trace.lines().map(|line| line.split_once(' ').unwrap()) {
            let mut rows = listed.lines().map(|line| line.split_whitespace());
            let lives = |state: &str| !state.starts_with('Z');
            assert!(!rows.any(|mut row| row.next() == Some(group) && row.next().is_some_and(lives)), "{group} is left");
            assert!(!PathBuf::from(directory).exists(), "{directory} is left");
        }
    }
}

/// An allocation must break this property with this text in the message.
fn found_out(body: &str, property: Property, expected: &str) {
    let fake = Fake::new(&format!("[ $CNI_COMMAND = DEL ] && [ $CNI_IFNAME = none ] && exit 0\n{body}"));
    let mut system = fake.start();
    call(&mut system, &pool("p0", "10.0.0.0/29", "10.0.0.1", &[])).unwrap();
    let begun = Instant::now();
    let failure = system.call(&allocate("a", &[("p0", "")])).expect_err("nothing was found");
    assert!(begun.elapsed() < TIMEOUT + Duration::from_secs(1));
    let Failure::Misbehaved(violation) = failure else { panic!("{failure}") };
    assert_eq!(violation.property, property, "{violation}");
    assert!(violation.message.contains(expected), "{violation} lacks {expected}");
    drop(system);
    fake.assert_nothing_is_left();
}

#[test]
fn misbehaving_plugins() {
    let total = |body, expected| found_out(body, Property::Total, expected);
    total("echo 'panic: index out of range' >&2; exit 2", "ADD made the plugin panic: panic: index out of range");
    total("sleep 60", "ADD was not done within");
    total("sleep 60 & exit 1", "exited with status 1 without an error in the form of CNI; it printed nothing");
    total("exit 1", "exited with status 1");
    total("echo oops; exit 1", "it printed oops");
    total("kill -SEGV $$", "was killed by signal 11");
    total("exit 0", "it is no JSON");
    total("echo garbage", "it is no JSON");
    total("yes", "ADD printed more than 1 MiB");
    total("echo '{\"cniVersion\":\"1.0.0\",\"ips\":[]}'", "1 range sets were granted 0 addresses");
    let two = "echo '{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.0.0.2/29\"},{\"address\":\"10.0.0.3/29\"}]}'";
    total(two, "1 range sets were granted 2 addresses");
    let error = "echo '{\"code\":999,\"msg\":\"no\"}'; exit 1";
    found_out(error, Property::Idempotent, "DEL of what is not there must succeed, but the plugin says: code 999, no");
}

#[test]
fn what_a_plugin_brings_back_or_loses_is_listed() {
    // It grants always the same and finds whatever CHECK asks for.
    let grant = "echo '{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.0.0.2/29\"}]}'";
    let fake = Fake::new(&format!("[ $CNI_COMMAND = ADD ] && {grant}\nexit 0"));
    let mut system = fake.start();
    call(&mut system, &pool("p0", "10.0.0.0/29", "10.0.0.1", &[])).unwrap();
    assert_eq!(granted(&mut system, &allocate("a", &[("p0", "")])), "10.0.0.2");
    call(&mut system, &release("p0", "10.0.0.2", "a")).unwrap();
    assert_eq!(listed(&mut system), ["p0 10.0.0.2 a"]);
    let refuse = "[ $CNI_COMMAND = CHECK ] && { echo '{\"code\":3,\"msg\":\"unknown\"}'; exit 1; }";
    let fake = Fake::new(&format!("{refuse}\n[ $CNI_COMMAND = ADD ] && {grant}\nexit 0"));
    let mut system = fake.start();
    call(&mut system, &pool("p0", "10.0.0.0/29", "10.0.0.1", &[])).unwrap();
    assert_eq!(granted(&mut system, &allocate("a", &[("p0", "")])), "10.0.0.2");
    assert_eq!(listed(&mut system), Vec::<String>::new());
}

/// Laxness that CNI allows is `invalid`; what no plugin may grant is handed on to be judged.
#[test]
fn what_is_granted_for_a_foreign_name_is_looked_at() {
    let answer = |address: &str, named: &str| {
        let grant = format!("echo '{{\"cniVersion\":\"1.0.0\",\"ips\":[{{\"address\":\"{address}/29\"}}]}}'");
        let fake = Fake::new(&format!("[ $CNI_COMMAND = ADD ] && {grant}\nexit 0"));
        let mut system = fake.start();
        call(&mut system, &pool("p0", "10.0.0.0/29", "10.0.0.1", &[])).unwrap();
        // Somebody holds what this plugin grants, where that is the fourth address.
        if address == "10.0.0.3" {
            call(&mut system, &allocate("b", &[("p0", "")])).unwrap();
        }
        let answered = call(&mut system, &allocate("a", &[("p0", named)]));
        answered.map(|_| ()).map_err(|refusal| refusal.kind)
    };
    for named in ["10.0.0.5/32", "10.0.0.5/7", "::ffff:10.0.0.5", "::ffff:10.0.0.5/128", "nonsense"] {
        assert_eq!(answer("10.0.0.5", named), Err(Kind::Invalid), "{named}");
    }
    for (address, named) in [
        ("10.0.0.9", "10.0.0.9"),
        ("10.0.0.2", "10.0.0.9"),
        ("10.0.0.2", "10.0.0.5/32"),
        ("10.0.0.1", "10.0.0.1/32"),
        ("10.0.0.7", "nonsense"),
        ("10.0.0.3", "10.0.0.3/32"),
    ] {
        assert_eq!(answer(address, named), Ok(()), "{named}");
    }
}

/// A plugin that looks which addresses have a file, and then makes one; it does both under one lock, or not.
const FILES: &str = r#"
import fcntl, ipaddress, json, os, sys, time
config, verb = json.load(sys.stdin), os.environ["CNI_COMMAND"]
version = config["cniVersion"]
if verb == "VERSION":
    print(json.dumps({"cniVersion": version, "supportedVersions": [version]})); sys.exit()
ipam, owner = config["ipam"], os.environ["CNI_CONTAINERID"] + " " + os.environ["CNI_IFNAME"]
folder, sets = ipam["dataDir"], ipam["ranges"]
def fail(text):
    print(json.dumps({"cniVersion": version, "code": 999, "msg": text})); sys.exit(1)
if LOCKED:
    lock = open(os.path.join(folder, "lock"), "w"); fcntl.flock(lock, fcntl.LOCK_EX)
held = {}
for name in os.listdir(folder):
    if name != "lock":
        try: held[name] = open(os.path.join(folder, name)).read()
        except FileNotFoundError: pass
path = lambda address: os.path.join(folder, address)
mine = [address for address, holder in held.items() if holder == owner]
if verb == "ADD":
    net, named = ipaddress.ip_network(sets[0][0]["subnet"]), config.get("runtimeConfig", {}).get("ips", [])
    some = [str(a) for a in net.hosts() if str(a) != sets[0][0]["gateway"] and int(a) != int(net[0])]
    if named and named[0] not in some: fail("%s is not in range set" % named[0])
    if named and named[0] in held: fail("requested IP address %s is not available in range set" % named[0])
    free = named or [address for address in some if address not in held]
    if not free: fail("failed to allocate for range 0: no IP addresses available in range set")
    time.sleep(0.1)
    with open(path(free[0]), "w") as file: file.write(owner)
    print(json.dumps({"cniVersion": version, "ips": [{"address": "%s/%d" % (free[0], net.prefixlen)}]}))
elif verb == "DEL":
    for address in mine:
        try: os.remove(path(address))
        except FileNotFoundError: pass
elif not mine:
    fail("Failed to find address added by container")
"#;

/// `linearizable`: plugins that are started at the same time must lock what they share.
#[test]
fn plugins_at_the_same_time() {
    let text = "poolproof scenario 1\npool p0 10.0.0.0/29 gateway 10.0.0.1\nlane\nallocate \"a\" p0\nlane\n\
                allocate \"b\" p0\nrelease p0 @6 \"b\"\njoin\ndrain p0 16\nfill p0 \"y\" 16\n";
    let scenario = parse(text).unwrap();
    let found = |mut system: Cni| {
        let run = Examiner::thorough(&system).examine(&mut system, &scenario).unwrap();
        run.finding.map(|finding| finding.violation)
    };
    if has_python() {
        let files = |locked: &str| {
            let program = format!("#!/usr/bin/env python3\nLOCKED = {locked}{FILES}");
            let fake = Fake::program(tempfile::tempdir().unwrap(), &program);
            found(fake.start())
        };
        assert_eq!(files("False").map(|violation| violation.property), Some(Property::Linearizable));
        assert_eq!(files("True"), None);
    }
    if let Some(system) = host_local() {
        assert_eq!(found(system), None);
    }
}

#[test]
fn other_programs_are_no_plugins() {
    let message = |path: &str| match Cni::with_timeout(PathBuf::from(path), TIMEOUT) {
        Err(Failure::Unable(message)) => message,
        Err(failure) => panic!("{failure}"),
        Ok(_) => panic!("{path} is a plugin"),
    };
    assert!(message("/nowhere/plugin").contains("cannot start `/nowhere/plugin`"));
    assert!(message("true").contains("is no usable CNI plugin"));
    let system = Fake::new("").start();
    assert!(system.contract().has(Method::List));
}

/// Not a test but a measurement: `cargo test --release --test cni -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn overhead_of_a_call() {
    let Some(mut system) = host_local() else { return };
    call(&mut system, &pool("p0", "10.0.0.0/16", "10.0.0.1", &[])).unwrap();
    let rounds: u32 = 200;
    let begun = Instant::now();
    for _ in 0..rounds {
        let address = granted(&mut system, &allocate("a", &[("p0", "")]));
        call(&mut system, &release("p0", &address, "a")).unwrap();
    }
    println!("{:?} a run of the plugin", begun.elapsed() / (2 * rounds));
}
