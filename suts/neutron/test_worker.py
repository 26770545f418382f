"""Tests of the worker on Neutron 29.0.0.

    python3 suts/neutron/prepare.py
    python3 -m unittest discover suts/neutron

`POOLPROOF` names the harness's binary; else it is what `cargo build --release` makes, or in the PATH. Without it or the
virtual environment there is nothing to run: skipped, or failed with POOLPROOF_REQUIRE_NEUTRON set.
"""
import ast
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PYTHON, WORKER = HERE / "venv" / "bin" / "python", HERE / "worker.py"
BUILT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "poolproof"
POOLPROOF = shutil.which(os.environ.get("POOLPROOF", BUILT if BUILT.exists() else "poolproof"))
SCENARIOS = sorted((HERE / "scenarios").glob("*.scenario"))
REVIEWED = ["broad-exception-handling", "errors-that-disclose-internals", "missing-input-validation",
            "predictable-randomness", "resources-not-released", "sql-injection", "tangled-code"]
ON = "stdio:suts/neutron/venv/bin/python suts/neutron/worker.py"  # scenarios name the worker as from the root
TIMEOUT_S = 300

IS_REQUIRED = "POOLPROOF_REQUIRE_NEUTRON" in os.environ
needs_neutron = unittest.skipUnless(IS_REQUIRED or PYTHON.exists(),
                                    "no virtual environment: python3 suts/neutron/prepare.py")
needs_harness = unittest.skipUnless(IS_REQUIRED or POOLPROOF, "no harness: cargo build --release -p poolproof")


def harness(*arguments):
    """The report of a run of the harness."""
    done = subprocess.run([POOLPROOF, *arguments, "--format", "json"], cwd=ROOT, capture_output=True, text=True,
                          timeout=TIMEOUT_S)
    if not done.stdout.strip():
        raise AssertionError(f"the harness ended with status {done.returncode}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def outcome(report):
    """As in a comment of a scenario: `pass`, or `violated PROPERTY`."""
    return " ".join([report["verdict"], *(found["property"] for found in report["violations"])])


class Scenario:
    """What the comments at the head of a scenario claim."""

    def __init__(self, path):
        self.path, self.lines = path, path.read_text().splitlines()
        self.on = self.lines[1].removeprefix("# on: ")
        # What comes out with Neutron 29.0.0, and what with other options.
        self.claims = [("", claim) for claim in self.found(r"# outcome: (.+)")] + self.found(r"# with (.+): (.+)")

    def found(self, pattern):
        matches = (re.fullmatch(pattern, line) for line in self.lines)
        return [match.group(1) if match.re.groups == 1 else match.groups() for match in matches if match]


class ScenarioText(unittest.TestCase):
    def test_each_review_finding_has_one(self):
        self.assertLessEqual(set(REVIEWED), {path.stem for path in SCENARIOS})

    def test_each_says_what_it_runs_on_and_what_comes_out(self):
        for path in SCENARIOS:
            with self.subTest(path.stem):
                scenario = Scenario(path)
                self.assertEqual(scenario.lines[0], "poolproof scenario 1")
                self.assertTrue(scenario.on.startswith(ON), scenario.on)
                self.assertEqual([options for options, _ in scenario.claims].count(""), 1)

    def test_each_can_pass_and_can_fail(self):
        for path in SCENARIOS:
            with self.subTest(path.stem):
                verdicts = {claim.split()[0] for _, claim in Scenario(path).claims}
                self.assertEqual(verdicts, {"pass", "violated"})

    def test_each_faulty_driver_is_used(self):
        classes = [node.name for node in ast.parse((HERE / "faulty.py").read_text()).body
                   if isinstance(node, ast.ClassDef) and node.name.endswith("Pool")]
        options = " ".join(options for path in SCENARIOS for options, _ in Scenario(path).claims)
        self.assertEqual([name for name in classes if f"faulty:{name}" not in options], [])


@needs_neutron
class Lines(unittest.TestCase):
    """The worker alone, line by line."""

    def answers(self, *lines, options=()):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run([PYTHON, WORKER, *options], input="\n".join(lines) + "\n", capture_output=True,
                                  text=True, timeout=TIMEOUT_S, env={**os.environ, "POOLPROOF_STATE_DIR": folder},
                                  check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def call(self, method, **params):
        return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})

    def test_it_introduces_itself(self):
        introduced, = self.answers(self.call("initialize", protocol=1))
        self.assertEqual(introduced["result"]["name"], "neutron")
        contract = introduced["result"]["contract"]
        self.assertTrue(contract["durable"])
        self.assertIn("rollback", contract["methods"])

    def test_a_driver_that_fails_promises_no_transactions(self):
        options = ["--backend", "pluggable", "--fail-at", "2"]
        introduced, = self.answers(self.call("initialize", protocol=1), options=options)
        contract = introduced["result"]["contract"]
        self.assertFalse(contract["durable"])
        self.assertNotIn("begin", contract["methods"])

    def test_other_protocols_are_unsupported(self):
        refused, = self.answers(self.call("initialize", protocol=2))
        self.assertEqual(refused["error"]["data"]["kind"], "unsupported")

    def test_each_line_is_answered_once(self):
        answers = self.answers("", "x", "{}", "[" * 100_000, '{"jsonrpc":"2.0","method":"list"}', self.call("no.such"),
                               self.call("list"))
        kinds = [answer["error"]["data"]["kind"] if "error" in answer else "ok" for answer in answers]
        self.assertEqual(kinds, ["invalid"] * 5 + ["unsupported", "ok"])

    def test_what_neutron_does_not_explain_is_internal(self):
        """An exception that no table knows is shown with its class."""
        create = self.call("pool.create", pool="p", prefix="10.0.0.0/29")
        take = self.call("allocate", owner="a", requests=[{"pool": "p"}])
        _, answer = self.answers(create, take, options=["--driver", "faulty:CrashingPool"])
        self.assertEqual(answer["error"]["data"]["kind"], "internal")
        self.assertIn("ZeroDivisionError", answer["error"]["message"])

    def test_options_that_do_not_go_together(self):
        for options in (["--fail-at", "2"], ["--fail-undo"], ["--subnets-per-pool", "0"],
                        ["--backend", "pluggable", "--any", "automatic"]):
            with self.subTest(options), self.assertRaises(subprocess.CalledProcessError):
                self.answers(options=options)


@needs_neutron
@needs_harness
class Outcomes(unittest.TestCase):
    def test_scenarios_come_out_as_they_say(self):
        for path in SCENARIOS:
            scenario = Scenario(path)
            for options, claim in scenario.claims:
                with self.subTest(path.stem, options=options):
                    report = harness("replay", str(path), "--sut", f"{scenario.on} {options}")
                    self.assertEqual(outcome(report), claim)

    def test_brief_campaigns_pass(self):
        with tempfile.TemporaryDirectory() as folder:
            for options in ("", "--any preferred-next", "--any automatic", "--subnets-per-pool 3",
                            "--backend pluggable", "--backend pluggable --fail-at 7"):
                with self.subTest(options):
                    report = harness("check", "--runs", "12", "--seed", "1", "--save", folder,
                                     "--sut", f"{ON} --no-durable {options}")
                    self.assertEqual(report["violations"], [])

    def test_what_was_acknowledged_survives_restarts_and_crashes(self):
        rules = sorted((ROOT / "corpus" / "rules").glob("crash-*.scenario"))
        report = harness("replay", *map(str, rules), "--sut", ON)
        self.assertEqual(report["violations"], [])
        self.assertGreater(report["coverage"]["crashes"], 0)


if __name__ == "__main__":
    unittest.main()
