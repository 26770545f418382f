"""The hand-made corpus under the Python SUTs.

    POOLPROOF=…/poolproof python3 -m unittest discover suts/python -p test_corpus.py

Every scenario must pass on a correct allocator, whatever its contract. And with each `# caught: NAME SWITCHES` line it
claims that a breakage of `broken.py` fails on it. Without the harness's binary there is nothing to run: skipped.
"""
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import subprocess
import unittest

import broken

HERE = pathlib.Path(__file__).parent
RULES = sorted((HERE.parent.parent / "corpus" / "rules").glob("*.scenario"))
POOLPROOF = os.environ.get("POOLPROOF")
ALLOCATOR, BROKEN = HERE / "allocator.py", HERE / "broken.py"
TIMEOUT_S = 120

CONTRACTS = [
    "--clock virtual --durable",
    "--clock virtual --durable --shared --blocks --unpredictable",
    "--clock virtual --repeat same --release-unknown ok",
    "--repeat conflict --release-by anyone --no-disjoint-pools",
    "--no-reserves-edges --no-atomic --incomplete",
    "--without list,usage,release_owner,begin",
]
# What the protocol leaves open: is 10.0.0.5/32, in a contract by which any release may be answered `ok`, the address?
DISPUTED = {("release-of-an-address-as-a-block-frees-nothing", "ok")}


def replay(paths, server, switches):
    sut = shlex.join(["python3", str(server), *switches])
    done = subprocess.run([POOLPROOF, "replay", "--format", "json", "--sut", f"stdio:{sut}", *map(str, paths)],
                          capture_output=True, text=True, timeout=TIMEOUT_S)
    if not done.stdout.strip():
        raise AssertionError(f"the harness ended with status {done.returncode}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def claims():
    """(path, name, switches) of each `# caught:` line."""
    return [(path, *claim) for path in RULES
            for claim in re.findall(r"^# caught: (\S+)(.*)$", path.read_text(), re.MULTILINE)]


class CorpusText(unittest.TestCase):
    def test_file_names_are_rules_in_kebab_case(self):
        self.assertTrue(RULES)
        for path in RULES:
            self.assertRegex(path.stem, r"\A[a-z0-9]+(-[a-z0-9]+)+\Z")

    def test_each_file_says_its_rule_and_the_fault(self):
        for path in RULES:
            with self.subTest(path.stem):
                lines = path.read_text().splitlines()
                self.assertEqual(lines[0], "poolproof scenario 1")
                self.assertRegex(lines[1], r"\A# \S")
                self.assertTrue(lines[2].startswith("# Wrong: "))
                steps = [line for line in lines if line and not line.startswith("#")][1:]
                self.assertIn(len(steps), range(2, 13))

    def test_claims_name_breakages(self):
        for path, name, switches in claims():
            with self.subTest(path.stem):
                self.assertIn(name, broken.TABLE)
                self.assertLessEqual(set(broken.TABLE[name].switches), set(switches.split()))


@unittest.skipUnless(POOLPROOF, "POOLPROOF does not name the harness's binary")
class Corpus(unittest.TestCase):
    def test_correct_allocators_pass(self):
        for switches in CONTRACTS:
            with self.subTest(switches):
                words = switches.split()
                paths = [path for path in RULES if not any((path.stem, word) in DISPUTED for word in words)]
                report = replay(paths, ALLOCATOR, words)
                self.assertEqual(report["violations"], [])
                self.assertEqual(report["scenarios"], len(paths))

    def test_an_allocator_with_everything_skips_nothing_but_faults(self):
        report = replay(RULES, ALLOCATOR, ["--clock", "virtual", "--durable"])
        # Each has faults before one step.
        struck = [path for path in RULES if re.search(r"^fault ", path.read_text(), re.MULTILINE)]
        self.assertEqual((report["verdict"], report["skipped"]), ("pass", len(struck)))

    def test_claimed_breakages_are_caught(self):
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
            started = [(path, name, threads.submit(replay, [path], BROKEN, ["--break", name, *switches.split()]))
                       for path, name, switches in claims()]
            for path, name, report in started:
                with self.subTest(path.stem, breakage=name):
                    self.assertEqual(report.result()["verdict"], "violated")


if __name__ == "__main__":
    unittest.main()
