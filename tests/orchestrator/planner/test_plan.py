"""What every plan promises, whatever the cluster and the line look like."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.planner.facts import Demand, Facts, Gpu, Hold, Machine
from orchestrator.planner.line import line_up
from orchestrator.planner.plan import Why, plan
from orchestrator.planner.room import Reserved, Room
from tests.orchestrator.planner.clusters import after, assert_sound, situations

MANY = settings(max_examples=100, deadline=None)
ONE = Machine("m", 4, tuple(Gpu(i, 80) for i in range(4)))


def demand(run: str, **words: object) -> Demand:
    basic = {"owner": "ada", "age": 0.0, "fits": frozenset({"m"})}
    return Demand(run, **{**basic, **words})  # type: ignore[arg-type]


def started(facts: Facts) -> dict[str, tuple[str, ...]]:
    return {one.run: tuple(seat.machine for seat in one.seats) for one in plan(facts).starts}


@MANY
@given(situations())
def test_nothing_is_given_twice_and_every_run_is_decided_once(facts):
    assert_sound(facts, plan(facts))


@MANY
@given(situations(), st.randoms())
def test_equal_facts_give_equal_plans_in_whatever_order_they_are_told(facts, chance):
    def mixed(several):
        return tuple(chance.sample(several, len(several)))

    told = replace(
        facts,
        machines=mixed(facts.machines),
        holds=mixed(facts.holds),
        demands=mixed(facts.demands),
    )
    first, second = plan(facts), plan(told)
    assert (first.starts, first.waits, first.stays) == (second.starts, second.waits, second.stays)
    assert set(first.yields) == set(second.yields)


@MANY
@given(situations())
def test_no_run_waits_beside_room_that_it_could_take_without_delaying_one_ahead(facts):
    made = plan(facts)
    known = {one.run: one for one in facts.demands}
    rooms = rooms_after(facts, made)
    for wait in made.waits:
        one = known[wait.run]
        if not one.ready or wait.why in (Why.NO_MACHINE, Why.TOO_FEW):
            continue
        could = [
            room
            for name, room in rooms.items()
            if name in one.fits
            and (seat := room.seat(one)) is not None
            and not room.would_delay(one, seat)
        ]
        assert len(could) < one.machines, f"{wait} could start on {could}"


@MANY
@given(situations())
def test_who_comes_later_in_the_line_changes_nothing_for_who_comes_first(facts):
    """Starts, reservations and promised moments of the first runs are those of a line that ends there."""
    line, made = line_up(facts), plan(facts)
    for length in range(len(line)):
        ahead = frozenset(one.run for one in line[:length])
        # Behind others and never ready: they keep their owners' turns, and can take nothing.
        rest = tuple(replace(one, fits=frozenset()) for one in line[length:])
        short = plan(replace(facts, demands=(*line[:length], *rest)))
        for kind in ("starts", "waits"):
            whole = [one for one in getattr(made, kind) if one.run in ahead]
            assert whole == [one for one in getattr(short, kind) if one.run in ahead]
    rooms = rooms_after(facts, made)
    known = {one.run: one for one in facts.demands}
    for wait in made.waits:
        if wait.held and wait.starts_in is not None:
            opens = max(rooms[name].opens_in(known[wait.run]) for name in wait.held)
            assert opens <= wait.starts_in


@MANY
@given(situations())
def test_a_higher_priority_never_stands_behind_a_lower_one(facts):
    made = plan(facts)
    known = {one.run: one for one in facts.demands}
    for decided in (made.starts, made.waits):
        priorities = [known[one.run].priority for one in decided]
        assert priorities == sorted(priorities, reverse=True)


def rooms_after(facts: Facts, made) -> dict[str, Room]:
    holds = after(facts, made)
    rooms = {m.id: Room(m, (h for h in holds if h.machine == m.id)) for m in facts.machines}
    known = {one.run: one for one in facts.demands}
    for wait in made.waits:
        opens = float("inf") if wait.starts_in is None else wait.starts_in
        for name in wait.held:
            rooms[name].reserved = Reserved(known[wait.run], opens)
    return rooms


def test_a_big_run_has_room_held_and_a_short_one_passes_only_when_it_ends_in_time():
    holds = (Hold("old", "bob", "m", 3, (0, 1, 2), ends_in=600.0),)
    big = demand("big", gpus=4)
    line = Facts(
        (ONE,), holds, (big, demand("endless", age=1.0), demand("late", age=2.0, lasts=601))
    )
    made = plan(line)
    assert made.starts == ()
    assert [(w.run, w.why, w.held, w.starts_in) for w in made.waits] == [
        ("big", Why.ROOM, ("m",), 600.0),
        ("endless", Why.HELD, (), None),
        ("late", Why.HELD, (), None),
    ]
    assert made.waits[1].behind == "big"
    short = replace(line, demands=(*line.demands, demand("short", age=3.0, lasts=600.0)))
    assert started(short) == {"short": ("m",)}


def test_what_the_big_run_leaves_over_may_be_taken_for_as_long_as_anybody_likes():
    holds = (Hold("old", "bob", "m", 2, (0, 1), ends_in=600.0),)
    made = Facts((ONE,), holds, (demand("big", gpus=3), demand("small", age=1.0)))
    assert started(made) == {"small": ("m",)}
    both = replace(made, demands=(*made.demands, demand("other", age=2.0)))
    assert started(both) == {"small": ("m",)}, "the second one would take what the big run needs"


def test_while_nobody_can_tell_when_room_is_nothing_that_the_big_run_needs_is_given_away():
    holds = (Hold("old", "bob", "m", 2, (0, 1)),)
    line = Facts((ONE,), holds, (demand("big", gpus=3), demand("small", age=1.0, lasts=5.0)))
    made = plan(line)
    assert made.starts == () and made.waits[0].starts_in is None
    # A machine with slots to spare takes one that needs no GPU.
    roomy = replace(line, machines=(replace(ONE, slots=9),))
    roomy = replace(roomy, demands=(*line.demands, demand("cpu", age=2.0, gpus=0)))
    assert started(roomy) == {"cpu": ("m",)}


def test_a_machine_stays_held_for_the_run_it_was_held_for():
    two = (Machine("a", 2), Machine("b", 2))
    holds = (Hold("x", "bob", "a", 1, ends_in=900.0), Hold("y", "bob", "b", 1, ends_in=600.0))
    big = demand("big", gpus=None, fits=frozenset("ab"))
    wide = replace(big, machines=1, gpus=None)
    facts = Facts(
        tuple(replace(m, gpus=(Gpu(0), Gpu(1))) for m in two),
        tuple(replace(h, gpus=(0,)) for h in holds),
        (replace(wide, gpus=2),),
    )
    assert plan(facts).waits[0].held == ("b",)
    kept = replace(facts, demands=(replace(wide, gpus=2, held_for_it=("a",)),))
    assert plan(kept).waits[0].held == ("a",)


def test_owners_take_turns_by_what_they_have_used_and_hold():
    machine = replace(ONE, slots=3, gpus=())
    line = [demand(f"a{i}", age=i) for i in range(3)] + [
        demand(f"b{i}", owner="bob", age=9.0 + i) for i in range(3)
    ]
    facts = Facts((machine,), demands=tuple(line))
    assert [one.run for one in line_up(facts)] == ["a0", "b0", "a1", "b1", "a2", "b2"]
    busy = replace(facts, holds=(Hold("x", "ada", "m"),))
    assert [one.run for one in line_up(busy)][:2] == ["b0", "a0"]
    used = replace(facts, used={"ada": 59.0})
    assert line_up(used)[0].run == "a0", "less than a minute makes no difference"
    used = replace(facts, used={"ada": 2 * 3600.0})
    assert [one.run for one in line_up(used)] == ["b0", "b1", "a0", "b2", "a1", "a2"]


def test_a_run_that_cannot_start_has_a_place_and_costs_its_owner_no_turn():
    facts = Facts(
        (replace(ONE, slots=1, gpus=()),),
        demands=(
            demand("child", ready=False),
            demand("a", age=1.0),
            demand("b", owner="bob", age=2.0),
        ),
    )
    made = plan(facts)
    assert [(w.run, w.place, w.why) for w in made.waits] == [
        ("child", 1, Why.NOT_READY),
        ("b", 2, Why.ROOM),
    ]
    assert made.starts[0].run == "a"


def test_gpus_are_chosen_by_memory_and_machines_are_filled_one_after_the_other():
    cluster = (
        Machine("big", 4, tuple(Gpu(i, 80 + i) for i in range(4))),
        Machine("small", 2, (Gpu(0, 16), Gpu(1, 40))),
        Machine("cpu", 4),
    )
    fits = frozenset({"big", "small"})
    one = plan(Facts(cluster, demands=(demand("a", fits=fits, gpus=1, memory=20),))).starts[0]
    assert (one.seats[0].machine, one.seats[0].gpus) == ("small", (1,))
    two = plan(Facts(cluster, demands=(demand("a", fits=fits, gpus=2, memory=81),))).starts[0]
    assert (two.seats[0].machine, two.seats[0].gpus) == ("big", (1, 2))
    everywhere = frozenset({"big", "small", "cpu"})
    none = plan(Facts(cluster, demands=(demand("a", fits=everywhere, gpus=0),))).starts[0]
    assert (none.seats[0].machine, none.seats[0].gpus) == ("cpu", ())
    home = plan(Facts(cluster, demands=(demand("a", fits=fits, home="big"),))).starts[0]
    assert home.seats[0].machine == "big"


def test_a_gang_gets_all_of_its_machines_or_none():
    cluster = tuple(Machine(name, 2, (Gpu(0), Gpu(1))) for name in "abc")
    gang = demand("gang", gpus=2, machines=3, fits=frozenset("abc"))
    assert started(Facts(cluster, demands=(gang,))) == {"gang": ("a", "b", "c")}
    busy = Facts(cluster, (Hold("x", "bob", "c", 1, (0,), ends_in=60.0),), (gang,))
    made = plan(busy)
    assert made.starts == ()
    assert (made.waits[0].held, made.waits[0].starts_in) == (("a", "b", "c"), 60.0)
    few = replace(busy, demands=(replace(gang, fits=frozenset("ab")),))
    assert plan(few).waits[0].why == Why.TOO_FEW


def test_runs_that_allow_it_give_way_to_a_higher_priority_and_no_more_of_them_than_needed():
    holds = tuple(
        Hold(f"h{i}", "bob", "m", 1, (i,), yields=i != 3, at_work=100.0 - i) for i in range(4)
    )
    urgent = demand("urgent", gpus=2, priority=5)
    made = plan(Facts((ONE,), holds, (urgent,)))
    assert [(y.run, y.leaves_for) for y in made.yields] == [("h2", "urgent"), ("h1", "urgent")]
    assert (made.waits[0].why, made.waits[0].held) == (Why.GIVEN_WAY, ("m",))
    # Asked once is enough; and who was asked for a run that is gone may stay.
    leaving = tuple(replace(h, leaves_for="urgent" if h.run in ("h1", "h2") else "") for h in holds)
    again = plan(Facts((ONE,), leaving, (urgent,)))
    assert (again.yields, again.stays, again.waits[0].why) == ((), (), Why.GIVEN_WAY)
    assert plan(Facts((ONE,), leaving)).stays == ("h1", "h2")
    equal = plan(Facts((ONE,), holds, (replace(urgent, priority=0),)))
    assert equal.yields == ()
    three = plan(Facts((ONE,), holds, (replace(urgent, gpus=4),)))
    assert three.yields == (), "the fourth does not allow it, so nobody is asked in vain"


def test_nobody_gives_way_where_room_comes_anyway_within_a_minute():
    holds = (Hold("low", "bob", "m", 4, (0, 1, 2, 3), yields=True, ends_in=50.0),)
    assert plan(Facts((ONE,), holds, (demand("urgent", priority=5),))).yields == ()


def test_a_thousand_waiting_runs_are_planned_in_a_blink():
    chance = random.Random(1)
    cluster = tuple(Machine(f"m{i:02}", 8, tuple(Gpu(g, 80) for g in range(8))) for i in range(20))
    everywhere = frozenset(machine.id for machine in cluster)
    waiting = tuple(
        demand(
            f"r{i}",
            owner=chance.choice("abcde"),
            age=float(i),
            gpus=chance.randint(1, 8),
            fits=everywhere,
        )
        for i in range(1000)
    )
    made = plan(Facts(cluster, demands=waiting))
    assert_sound(Facts(cluster, demands=waiting), made)
    assert made.starts


def test_the_turn_is_kept_when_shares_change_and_only_by_who_waits_for_several_units():
    holds = (Hold("old", "bob", "m", 1, (0,)),)
    facts = Facts((ONE,), holds, (demand("big", gpus=4), demand("b", owner="bob", age=1.0)))
    made = plan(facts)
    assert [(wait.run, wait.turn) for wait in made.waits] == [("big", True), ("b", False)]
    later = replace(
        facts,
        demands=(demand("big", gpus=4, turn=True), facts.demands[1]),
        used={"ada": 1e6},
    )
    assert [one.run for one in line_up(later)] == ["big", "b"]
    assert [one.run for one in line_up(replace(later, demands=facts.demands))] == ["b", "big"]
    full = replace(facts, machines=(replace(ONE, slots=1),), demands=(demand("one"),))
    assert plan(full).waits[0].turn is False
