//! Systems on a pipe that misbehave in every way we know: each must become its own clear violation,
//! well within its time-out, and leave neither process nor directory behind.
#![cfg(feature = "process")]

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use poolproof::operation::{Answer, Kind, Operation, Request, Want};
use poolproof::property::Property;
use poolproof::scenario::text;
use poolproof::sut::stdio::Stdio;
use poolproof::sut::{Failure, Sut};

const TIMEOUT: Duration = Duration::from_millis(1500);

/// What every server below begins with: it writes its group and directory down, so that the test can
/// look for what is left, and offers `answer`, `raw` and `serve`.
const PRELUDE: &str = r#"
import json, os, signal, subprocess, sys, time
STATE = os.environ["POOLPROOF_STATE_DIR"]
with open(TRACE, "a") as trace:
    trace.write("%d %s\n" % (os.getpgid(0), STATE))
METHODS = ["reset", "pool.delete"]
CONTRACT = {"durable": True}
GRANT = {"granted": ["10.0.0.2"]}
def raw(text):
    sys.stdout.buffer.write(text if isinstance(text, bytes) else text.encode()); sys.stdout.buffer.flush()
def answer(request, result=GRANT):
    raw(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}) + "\n")
def initialize(request):
    answer(request, {"name": "toy", "version": "1", "contract": dict(CONTRACT, methods=METHODS)})
def call(request):
    answer(request)
def serve():
    for line in sys.stdin:
        request = json.loads(line)
        if request["params"].get("protocol", 1) != 1:
            error = {"code": -32000, "message": "no", "data": {"kind": "unsupported"}}
            raw(json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}) + "\n")
            continue
        initialize(request) if request["method"] == "initialize" else call(request)
"#;

/// The first process is only asked for a version of the protocol that nobody speaks.
const ASKED_FOR_VERSION: usize = 1;

/// A server written to a temporary file, and the traces of its processes.
struct Server {
    home: tempfile::TempDir,
}

impl Server {
    /// `body` comes between the prelude and the loop that serves.
    fn new(body: &str) -> Server {
        let home = tempfile::tempdir().unwrap();
        let trace = home.path().join("trace");
        let source = format!("TRACE = {:?}\n{PRELUDE}\n{body}\nserve()\n", trace.to_str().unwrap());
        std::fs::write(home.path().join("server.py"), source).unwrap();
        Server { home }
    }

    fn start(&self) -> Result<Stdio, Failure> {
        let script = self.home.path().join("server.py").to_str().unwrap().to_owned();
        Stdio::start(vec!["python3".to_owned(), script], Some(TIMEOUT))
    }

    /// Process groups and state directories of all processes so far.
    fn traces(&self) -> Vec<(String, PathBuf)> {
        let trace = std::fs::read_to_string(self.home.path().join("trace")).unwrap_or_default();
        let pairs = trace.lines().map(|line| line.split_once(' ').unwrap());
        pairs.map(|(group, directory)| (group.to_owned(), PathBuf::from(directory))).collect()
    }

    fn assert_nothing_is_left(&self) {
        let traces = self.traces();
        assert!(!traces.is_empty(), "the server never ran");
        for (group, directory) in traces {
            assert!(!group_lives(&group), "process group {group} is left");
            assert!(!directory.exists(), "{} is left", directory.display());
        }
    }
}

/// Killed members that nobody has reaped yet are gone as far as we are concerned.
fn group_lives(group: &str) -> bool {
    let listed = Command::new("ps").args(["-A", "-o", "pgid=,stat="]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut rows = listed.lines().map(|line| line.split_whitespace());
    rows.any(|mut row| row.next() == Some(group) && row.next().is_some_and(|state| !state.starts_with('Z')))
}

fn allocate() -> Operation {
    let requests = [Request { pool: text("p0"), want: Want::Any }].into_iter().collect();
    Operation::Allocate { owner: text("a"), requests, ttl_ms: None }
}

fn delete() -> Operation {
    Operation::DeletePool { pool: text("p0") }
}

/// Runs a short scenario and gives the first failure.
fn first_failure(system: &mut Stdio) -> Failure {
    let outcome = system.reset().and_then(|()| system.call(&allocate())).and_then(|_| system.call(&delete()));
    outcome.and_then(|_| system.finish()).expect_err("nothing was found")
}

/// The server must be found out with this text in the message; afterwards it must start afresh.
fn found_out(body: &str, expected: &str) {
    let server = Server::new(body);
    let begun = Instant::now();
    let mut system = server.start();
    let failure = match &mut system {
        Ok(system) => first_failure(system),
        Err(failure) => failure.clone(),
    };
    let took = begun.elapsed();
    assert!(took < TIMEOUT + Duration::from_secs(1), "{took:?}");
    let Failure::Misbehaved(violation) = &failure else { panic!("{failure}") };
    assert_eq!(violation.property, Property::Total, "{violation}");
    assert!(violation.message.contains(expected), "{violation} lacks {expected}");
    if let Ok(system) = &mut system {
        let groups = server.traces().len();
        system.reset().unwrap();
        assert_eq!(server.traces().len(), groups + 1, "no fresh process");
    }
    drop(system);
    server.assert_nothing_is_left();
}

#[test]
fn a_good_system_works_and_keeps_its_process() {
    let server = Server::new("CONTRACT['colour'] = 1");
    let mut system = server.start().unwrap();
    assert_eq!(system.name(), "toy 1");
    assert_eq!(system.warnings().len(), 1);
    assert!(system.contract().limits.raw && system.contract().durable);
    for _ in 0..3 {
        system.reset().unwrap();
        assert!(matches!(system.call(&allocate()).unwrap(), Ok(Answer::Granted { .. })));
        assert_eq!(system.call(&delete()).unwrap(), Ok(Answer::Done));
        system.finish().unwrap();
    }
    assert_eq!(server.traces().len(), ASKED_FOR_VERSION + 1);
    system.restart().unwrap();
    system.crash().unwrap();
    let directories: Vec<_> = server.traces().into_iter().map(|(_, directory)| directory).collect();
    let [asked, first, restarted, crashed] = directories.as_slice() else { panic!("{directories:?}") };
    assert!(first == restarted && first == crashed && first.exists());
    assert!(asked != first && !asked.exists());
    drop(system);
    server.assert_nothing_is_left();
}

#[test]
fn a_time_out_may_be_longer_than_the_clock() {
    let server = Server::new("");
    let script = server.home.path().join("server.py").to_str().unwrap().to_owned();
    let mut system = Stdio::start(vec!["python3".to_owned(), script], Some(Duration::MAX)).unwrap();
    system.call(&allocate()).unwrap().unwrap();
    system.restart().unwrap();
}

#[test]
fn without_reset_each_scenario_has_a_process_and_an_empty_directory() {
    let server = Server::new("METHODS = []\nassert os.listdir(STATE) == []\nopen(STATE + '/x', 'w')");
    let mut system = server.start().unwrap();
    for _ in 0..2 {
        system.reset().unwrap();
        system.call(&allocate()).unwrap().unwrap();
        system.finish().unwrap();
    }
    assert_eq!(server.traces().len(), ASKED_FOR_VERSION + 2);
    drop(system);
    server.assert_nothing_is_left();
}

#[test]
fn a_reset_that_stays_busy_is_a_violation_and_ends_the_process() {
    let server = Server::new(
        r#"
def call(request):
    error = {"code": -32000, "message": "no", "data": {"kind": "busy"}}
    raw(json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}) + "\n")"#,
    );
    let mut system = server.start().unwrap();
    assert_eq!(system.call(&allocate()).unwrap().unwrap_err().kind, Kind::Busy);
    let failure = system.reset().unwrap_err();
    assert!(failure.to_string().contains("`reset` was refused as `busy`"), "{failure}");
    assert!(matches!(failure, Failure::Misbehaved(violation) if violation.property == Property::Classified));
    system.reset().unwrap();
    assert_eq!(server.traces().len(), ASKED_FOR_VERSION + 2, "the next reset starts another process");
}

#[test]
fn missing_programs_are_no_violations() {
    let failure = Stdio::start(vec!["/nowhere/allocator".to_owned()], None).err().unwrap();
    assert!(matches!(&failure, Failure::Unable(message) if message.contains("/nowhere/allocator")), "{failure}");
    assert!(matches!(Stdio::start(vec![], None), Err(Failure::Unable(_))));
    assert!(matches!(Stdio::start(vec!["/".to_owned()], None), Err(Failure::Unable(_))));
}

#[test]
fn bad_introductions() {
    found_out("time.sleep(60)", "`initialize` was not answered within");
    found_out("sys.exit(3)", "exited with status 3 instead of answering `initialize`");
    found_out("print('Server ready', flush=True)", "the line is no JSON");
    found_out("CONTRACT['durable'] = 'yes'", "the contract is wrong");
    found_out("def initialize(r): answer(r)", "`contract` is no object");
}

/// A server that refuses another version and then exits, or takes it; nobody may say `invalid`.
#[test]
fn other_versions_of_the_protocol() {
    let with =
        |body: &str| Server::new(&format!("def serve():\n  request = json.loads(sys.stdin.readline())\n  {body}"));
    let refuse = |kind: &str| {
        let code = if kind == "invalid" { -32602 } else { -32000 };
        let error = format!("{{'code': {code}, 'message': 'no', 'data': {{'kind': '{kind}'}}}}");
        let line = format!("json.dumps({{'jsonrpc': '2.0', 'id': request['id'], 'error': {error}}})");
        format!("if request['params']['protocol'] != 1: raw({line} + '\\n'); sys.exit(1)\n  initialize(request)")
    };
    let good = with(&refuse("unsupported"));
    drop(good.start().unwrap());
    good.assert_nothing_is_left();
    for (body, words) in [(refuse("invalid"), "refused as `invalid`"), ("initialize(request)".to_owned(), "is taken")] {
        let server = with(&body);
        let Err(Failure::Misbehaved(violation)) = server.start() else { panic!("{body} passes") };
        assert_eq!(violation.property, Property::Classified, "{violation}");
        assert!(violation.message.contains(words), "{violation}");
        server.assert_nothing_is_left();
    }
}

#[test]
fn early_ends() {
    found_out(
        "def call(r): sys.exit('disk on fire')",
        "status 1 instead of answering `allocate`; its last words: disk",
    );
    found_out("def call(r): os.kill(os.getpid(), signal.SIGSEGV)", "was killed by signal 11");
    found_out("def call(r): raw('{\"json'); os._exit(0)", "in the middle of its answer to `allocate`: {\"json");
    found_out("def call(r): os.close(1); time.sleep(60)", "closed its stdout and lives on");
    found_out("def call(r): os.close(0); time.sleep(60)", "`allocate` was not answered within");
    // The grandchild keeps stdout open and would keep a reader waiting for ever.
    found_out("def call(r): subprocess.Popen(['sleep', '60']); os._exit(4)", "exited with status 4 instead");
}

#[test]
fn bad_lines() {
    found_out("def call(r): raw('nonsense\\n')", "the line is no JSON");
    found_out("def call(r): raw(b'\\xff\\xfe\\n')", "the line is no UTF-8");
    found_out("def call(r): answer({'id': r['id'] + 1})", "the `id` is wrong");
    found_out("def call(r): answer({'id': str(r['id'])})", "the `id` is wrong");
    found_out("def call(r): answer(r, {'granted': []})", "1 requests were granted 0");
}

#[test]
fn floods() {
    found_out("def call(r):\n  while True: raw('x' * 65536)", "by a line over 16 MiB");
    found_out("def call(r):\n  while True: sys.stderr.write('x' * 65536)", "`allocate` was not answered within");
    found_out("def call(r):\n  while True: raw('x\\n' * 32768)", "the line is no JSON");
}

/// A child with a session of its own is in no group that we could kill.
#[test]
fn children_that_leave_the_group_are_ended_too() {
    let server = Server::new(
        "child = subprocess.Popen(['sleep', '3600'], start_new_session=True)\n\
         with open(TRACE, 'a') as trace: trace.write('%d %s\\n' % (child.pid, STATE))",
    );
    let system = server.start().unwrap();
    let child = server.traces().pop().unwrap().0;
    assert!(group_lives(&child), "the child never ran");
    drop(system);
    server.assert_nothing_is_left();
}

#[test]
fn too_many_answers() {
    // At once, so that both lines are read together.
    let twice = "def call(r): raw((json.dumps({'jsonrpc': '2.0', 'id': r['id'], 'result': GRANT}) + '\\n') * 2)";
    found_out(twice, "after the answer to `allocate` there is output nobody asked for");
    // Later, so that the second line is read as the answer to the next request.
    found_out("def call(r): answer(r); time.sleep(0.2); answer(r)", "is answered a second time");
    // At the very end, found by the reset that ends the scenario.
    let last = "def call(r):\n  answer(r)\n  if r['method'] == 'pool.delete': time.sleep(0.2); raw('bye\\n')";
    found_out(last, "`reset` was answered wrongly: the line is no JSON");
    // The same without a reset: found at the end of the process.
    let exit = "METHODS = ['pool.delete']\nimport atexit; atexit.register(lambda: raw('bye'))";
    found_out(exit, "there is output nobody asked for: bye");
}

/// The failure of a restart or crash.
fn fails_to_return(body: &str, how: fn(&mut Stdio) -> Result<(), Failure>) -> (Property, String) {
    let server = Server::new(body);
    let mut system = server.start().unwrap();
    let begun = Instant::now();
    let failure = how(&mut system).unwrap_err();
    assert!(begun.elapsed() < TIMEOUT + Duration::from_secs(1));
    let Failure::Misbehaved(violation) = failure else { panic!("{failure}") };
    drop(system);
    server.assert_nothing_is_left();
    (violation.property, violation.message)
}

#[test]
fn restarts_and_crashes_that_go_wrong() {
    let dies = "import atexit, signal; atexit.register(lambda: os.kill(os.getpid(), signal.SIGKILL))";
    let (property, message) = fails_to_return(dies, Stdio::restart);
    assert_eq!(property, Property::Total);
    assert!(message.contains("when its stdin was closed"), "{message}");
    let (property, message) = fails_to_return("import atexit; atexit.register(time.sleep, 60)", Stdio::restart);
    assert_eq!(property, Property::Total);
    assert!(message.contains("does not exit within"), "{message}");
    let second = "second = os.path.exists(STATE + '/x')\nopen(STATE + '/x', 'w')\n";
    let refuses = format!("{second}if second: sys.exit(5)");
    for (how, name) in [(Stdio::restart as fn(&mut Stdio) -> _, "a clean restart"), (Stdio::crash, "a crash")] {
        let (property, message) = fails_to_return(&refuses, how);
        assert_eq!(property, Property::Durable);
        assert!(message.contains(&format!("after {name} it does not come up again: the system exited")), "{message}");
    }
    let changes = format!("{second}if second: CONTRACT['complete'] = False");
    let (property, message) = fails_to_return(&changes, Stdio::crash);
    assert_eq!(property, Property::Durable);
    assert!(message.contains("another contract"), "{message}");
}

#[test]
fn large_requests_to_a_deaf_system_end_in_time() {
    let deaf = "def initialize(r): answer(r, {'name': '', 'version': '', 'contract': {}}); time.sleep(60)";
    let server = Server::new(deaf);
    let mut system = server.start().unwrap();
    let begun = Instant::now();
    let failure = system.call(&Operation::Raw { line: vec![b'x'; 1 << 20].into() }).unwrap_err();
    assert!(failure.to_string().contains("was not answered within"), "{failure}");
    assert!(begun.elapsed() < TIMEOUT + Duration::from_secs(1));
    drop(system);
    server.assert_nothing_is_left();
}

#[test]
fn the_end_of_stderr_is_kept() {
    let server = Server::new("def call(r): sys.stderr.write('x' * 200000 + 'cause'); sys.stderr.flush(); os._exit(1)");
    let mut system = server.start().unwrap();
    first_failure(&mut system);
    let tail = system.diagnostics();
    assert!(tail.ends_with("cause") && tail.len() == 64 << 10, "{}", tail.len());
}

/// Not a test but a measurement: `cargo test --release --test stdio -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn overhead_of_a_call() {
    let server = Server::new("");
    let mut system = server.start().unwrap();
    let calls: u32 = 20_000;
    let begun = Instant::now();
    for _ in 0..calls {
        system.call(&allocate()).unwrap().unwrap();
    }
    println!("{:?} a call", begun.elapsed() / calls);
}
