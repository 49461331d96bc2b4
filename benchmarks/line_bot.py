"""How long does the LINE bot take to answer a webhook while it draws, and what do kills lose?

The real bot (SDK, SQLite, bundled model) stands beside the stand-in for LINE. Users send messages
at random moments; now and then the bot, or the process it draws in, is killed by SIGKILL and
started again; LINE redelivers what was not answered within a second. In the end each message must
have brought its picture to its user once. The random moments follow from --seed.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from apps.line_bot.simulate import Person, StandIn  # noqa: E402
from apps.line_bot.simulate.serving import free_port  # noqa: E402
from benchmarks import reports  # noqa: E402
from benchmarks.line_bot_process import BotProcess  # noqa: E402
from benchmarks.processes import alive  # noqa: E402
from ldm.images.embed import parameters_in  # noqa: E402
from ldm.images.metadata import parse_parameters  # noqa: E402
from ldm.images.opening import opened  # noqa: E402

PUBLIC = "https://bot.example"
PROMPTS = ("a red apple", "a cat on a blue background", "青い背景の犬", "a house", "赤い車")
GOAL = 0.2  # seconds: p99 of the webhook's answers
REDELIVER_AFTER = (
    2,
    5,
    10,
    10,
    15,
    15,
    30,
    30,
    60,
    60,
)  # seconds; how often LINE does, nobody says
SETTLING = 5.0  # seconds in which a picture that comes twice would come


@dataclass
class Result:
    """What happened.

    Attributes:
        answers: Seconds of each answer to a webhook; one that did not come in time counts as long
            as LINE waited.
        late: How many of those did not come in time although somebody listened.
        unheard: Attempts that met no bot, since it had been killed.
        redelivered: Attempts that were redeliveries.
        arrived: How often each message's picture came, by the message's number.
        strangers: Pictures that came to somebody else, or that nobody asked for.
        ways: Pictures by "reply" and "push".
        killed: "bot" or "worker", in order.
        left: Processes that outlived the bot.
        seconds: From the first message to the last picture.
    """

    answers: list[float] = field(default_factory=list)
    late: int = 0
    unheard: int = 0
    redelivered: int = 0
    arrived: Counter[int] = field(default_factory=Counter)
    strangers: int = 0
    ways: Counter[str] = field(default_factory=Counter)
    killed: list[str] = field(default_factory=list)
    left: int = 0
    seconds: float = 0.0

    def lost(self, messages: int) -> int:
        """Return how many messages brought no picture."""
        return sum(self.arrived[number] == 0 for number in range(messages))

    @property
    def doubled(self) -> int:
        """How many pictures came more than once."""
        return sum(count - 1 for count in self.arrived.values() if count > 1)

    def quantile(self, share: float) -> float:
        """Return the time within which this share of webhooks was answered, in seconds."""
        ordered = sorted(self.answers)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--messages", type=int, default=200, help="(default: %(default)s)")
    add("--users", type=int, default=20, help="(default: %(default)s)")
    add("--kills", type=int, default=5, help="kill -9 so often (default: %(default)s)")
    add("--kill", nargs="+", choices=("bot", "worker"), default=["bot", "worker"], help="whom")
    add("--over", type=float, default=120.0, help="seconds to send in (default: %(default)s)")
    add("--steps", type=int, default=10, help="sampling steps of a picture (default: %(default)s)")
    add("--seed", type=int, default=15, help="of all random moments (default: %(default)s)")
    add("--patience", type=float, default=900.0, help="seconds to wait for pictures at the end")
    add("--root", type=Path, default=ROOT, help="checkout whose bot runs (default: this one)")
    add("--save", metavar="NAME", help="also write results/line-bot-NAME.md")
    args = parser.parse_args(argv)
    if min(args.messages, args.users, args.steps) < 1 or args.kills < 0 or args.over <= 0:
        parser.error("--messages, --users and --steps go from 1, --kills from 0, --over above 0")
    return args


@contextmanager
def stage(args: argparse.Namespace, folder: Path) -> Iterator[tuple[StandIn, BotProcess]]:
    """Run a stand-in with its users and a bot beside it while the block lasts."""
    people = [Person(f"user {n}", ("ja", "zh-Hant", "en")[n % 3]) for n in range(args.users)]
    port = free_port()
    with (
        StandIn(users=people, redeliver_after=REDELIVER_AFTER) as line,
        (folder / "bot.log").open("wb") as log,
    ):
        line.connect(f"http://127.0.0.1:{port}/callback", {PUBLIC: f"http://127.0.0.1:{port}"})
        line.switches.set(quota=None)
        secrets = {
            "LINE_CHANNEL_SECRET": line.secret, "LINE_CHANNEL_ACCESS_TOKEN": line.access_token,
        }  # fmt: skip
        most = str(args.messages)
        flags = [
            *("--public_base_url", PUBLIC, "--line_api", line.address, "--line_data", line.address),
            *("--data", str(folder / "data"), "--ddim_steps", str(args.steps)),
            *("--waiting_jobs", most, "--daily_pictures", most, "--daily_total", most),
        ]
        bot = BotProcess(args.root, flags, secrets, port, log)
        try:
            yield line, bot
        finally:
            bot.end()


def measure(args: argparse.Namespace, folder: Path) -> Result:
    """Send messages, kill, and count what came.

    Raises:
        RuntimeError: The bot did not start.
    """
    draw, result = random.Random(args.seed), Result()
    with stage(args, folder) as (line, bot):
        bot.start(ready=True)
        begun = time.monotonic()
        users = [_User(line, person, args, draw) for person in line.users]
        for number in range(args.messages):
            users[draw.randrange(args.users)].numbers.append(number)
        killer = threading.Thread(target=_kill, args=(bot, args, random.Random(args.seed + 1)))
        threads = [*(threading.Thread(target=each.send) for each in users), killer]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        _wait(line, args)
        result.seconds = time.monotonic() - begun
        time.sleep(SETTLING)
        workers = bot.workers()
        _collect(line, users, result)
        bot.end()
        result.killed, result.left = bot.killed, len(alive(workers))
    return result


class _User:
    """Sends messages at random moments; the seed of each picture is the message's number."""

    def __init__(
        self, line: StandIn, person: Person, args: argparse.Namespace, draw: random.Random
    ) -> None:
        self.line, self.person, self.over = line, person, args.over
        self.draw = random.Random(draw.random())
        self.numbers: list[int] = []

    def send(self) -> None:
        begun = time.monotonic()
        moments = sorted(self.draw.uniform(0, self.over) for _ in self.numbers)
        for moment, number in zip(moments, self.numbers, strict=True):
            time.sleep(max(0.0, begun + moment - time.monotonic()))
            self.line.say(self.person, f"{self.draw.choice(PROMPTS)}, seed {number}")


def _kill(bot: BotProcess, args: argparse.Namespace, draw: random.Random) -> None:
    """Kill at random moments, each some time after the bot has come back from the last."""
    for _ in range(args.kills):
        time.sleep(draw.uniform(0.1, 1.9) * args.over / (args.kills + 1))
        bot.kill(draw.choice(args.kill))
        if not bot.runs:
            time.sleep(draw.uniform(0.0, 2.0))
            bot.start()


def _pictures(line: StandIn) -> int:
    with line.ledger.lock:
        return sum(m.sender is None and m.content["type"] == "image" for m in line.ledger.messages)


def _wait(line: StandIn, args: argparse.Namespace) -> None:
    late = time.monotonic() + args.patience
    while _pictures(line) < args.messages and time.monotonic() < late:
        time.sleep(0.2)


def _collect(line: StandIn, users: list[_User], result: Result) -> None:
    for delivery in line.webhooks.deliveries:
        result.redelivered += len(delivery.attempts) - 1
        for attempt in delivery.attempts:
            late = attempt.fault == "no answer in time"
            result.late += late
            if late or attempt.status is not None:
                result.answers.append(attempt.seconds)
            else:
                result.unheard += 1
    for user in users:
        for message in line.messages_of(user.person):
            if message.content["type"] == "image":
                result.ways[message.way] += 1
                number = _number(line.fetch_picture(message)[0])
                result.strangers += number not in user.numbers
                result.arrived[number] += 1


def _number(data: bytes) -> int:
    """Return the number of the message that a picture was drawn for: its seed."""
    with opened(data) as image:
        text = parameters_in(image) or ""
    return int(parse_parameters(text)[2].get("Seed", -1))


def report(args: argparse.Namespace, result: Result) -> list[str]:
    """Return what was found, in Markdown."""
    from ldm.processor import cores, cpu_name

    lost, kills = result.lost(args.messages), Counter(result.killed)
    times = [result.quantile(share) * 1000 for share in (0.5, 0.95, 0.99, 1.0)]
    met = "met" if times[2] <= GOAL * 1000 else "not met"
    others = f"{result.strangers} pictures were somebody else's, {result.left} processes were left"
    mean = statistics.fmean(result.answers) * 1000 if result.answers else 0.0
    return [
        f"- hardware: {cpu_name()}, {cores()} cores; Python {sys.version.split()[0]}",
        f"- {args.messages} messages of {args.users} users over {args.over:g} s, pictures of "
        f"{args.steps} steps; killed by SIGKILL: the bot {kills['bot']} times, the process that "
        f"draws {kills['worker']} times",
        f"- all was delivered {result.seconds:.0f} s after the first message",
        "",
        "| webhooks answered | mean, ms | p50 | p95 | p99 | max | goal: p99 of 200 ms |",
        "|---|---|---|---|---|---|---|",
        f"| {len(result.answers)} | {mean:.1f} | {times[0]:.1f} | {times[1]:.1f} | {times[2]:.1f} "
        f"| {times[3]:.1f} | {met} |",
        "",
        "| pictures | lost | doubled | by reply | by push | met no bot | redelivered | too late |",
        "|---|---|---|---|---|---|---|---|",
        f"| {sum(result.arrived.values())} | {lost} | {result.doubled} | {result.ways['reply']} | "
        f"{result.ways['push']} | {result.unheard} | {result.redelivered} | {result.late} |",
        "",
        f"{others}.",
    ]


def main(argv: list[str] | None = None) -> int:
    """Measure, and show; 1 if a picture was lost, came twice or came to somebody else."""
    args = parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = measure(args, Path(folder))
        except RuntimeError as error:
            log = (Path(folder) / "bot.log").read_text(encoding="utf-8", errors="replace")
            sys.stderr.write(f"{log[-2000:]}\n{error}\n")
            return 1
    command = f"- command: `python benchmarks/line_bot.py {' '.join(argv or sys.argv[1:])}`"
    save = f"line-bot-{args.save}" if args.save else None
    reports.tell([command, *report(args, result)], "The LINE bot under load and kills", save)
    return int(bool(result.lost(args.messages) or result.doubled or result.strangers))


if __name__ == "__main__":
    sys.exit(main())
