//! The sum of the pieces is what a walk from minute to minute counts, whatever the history.

use super::*;

const END: i64 = 600;

fn points() -> impl Strategy<Value = Vec<Counted>> {
    let one = (-200..END, 0..90_i64, proptest::option::of(0..400_i64)).prop_map(
        |(consistent, took, lasted)| {
            // A clock that is ahead now and then.
            let from = consistent + took - 10;
            point(consistent, from, lasted.map(|lasted| from + lasted))
        },
    );
    proptest::collection::vec(one, 0..25)
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let service = prop_oneof![
        4 => Just(Service::Active),
        1 => Just(Service::Suspended),
        1 => Just(Service::Removed),
    ];
    let one = (-100..END, service, any::<bool>(), any::<bool>()).prop_map(
        |(minute, service, is_pro, is_acme)| Change {
            team: if is_acme { "acme" } else { "others" }.to_owned(),
            tier: if is_pro { "pro" } else { "free" }.to_owned(),
            ..change(minute, service)
        },
    );
    proptest::collection::vec(one, 1..6).prop_map(|mut changes| {
        changes.sort_by_key(|change| change.at);
        changes
    })
}

fn fleet() -> impl Strategy<Value = Fleet> {
    let terms = (-300..END, 0..90_i64, 0..30_i64).prop_map(|(a, b, c)| super::terms(a, b, c));
    let promised = proptest::collection::vec(terms, 0..4).prop_map(|mut terms| {
        terms.sort_by_key(|terms| terms.since);
        terms
    });
    let pause = (0..END, 0..200_i64, any::<bool>()).prop_map(|(from, lasted, of_one)| Paused {
        team: of_one.then(|| "acme".to_owned()),
        ..paused(from, from + lasted)
    });
    let pauses = proptest::collection::vec(pause, 0..3);
    let down = (0..END, 0..200_i64).prop_map(|(from, lasted)| span(from, from + lasted));
    let free = (-300..END, 0..90_i64).prop_map(|(a, b)| vec![super::terms(a, b, 0)]);
    (promised, free, pauses, down).prop_map(|(pro, free, pauses, down)| Fleet {
        terms: HashMap::from([("pro".to_owned(), pro), ("free".to_owned(), free)]),
        pauses,
        down: vec![down],
    })
}

/// Counts like [`minutes`], but for the worst exposure, by looking at the middle of each minute.
fn walked(fleet: &Fleet, record: &Record, span: Span) -> [i64; 5] {
    let mut sums = [0; 5];
    let mut now = span.from + TimeDelta::seconds(30);
    while now < span.until {
        let [promised, late, broken, paused, down] = looked_at(fleet, record, now);
        for (sum, is) in sums.iter_mut().zip([promised, late, broken, paused, down]) {
            *sum += i64::from(is);
        }
        now += TimeDelta::minutes(1);
    }
    sums
}

fn looked_at(fleet: &Fleet, record: &Record, now: DateTime<Utc>) -> [bool; 5] {
    let nothing = [false; 5];
    let Some(was) = record.changes.iter().rfind(|change| change.at <= now) else {
        return nothing;
    };
    let promised = fleet.terms.get(&was.tier);
    let promised = promised.and_then(|all| all.iter().rfind(|terms| terms.since <= now));
    let Some(promised) = promised.filter(|terms| !terms.rpo.is_zero()) else {
        return nothing;
    };
    let covers = |it: &&Paused| it.team.as_ref().is_none_or(|team| *team == was.team);
    let is_paused = fleet
        .pauses
        .iter()
        .filter(covers)
        .any(|it| it.span.from <= now && now < it.span.until);
    match was.service {
        Service::Removed => return nothing,
        Service::Suspended => return [false, false, false, true, false],
        Service::Active if is_paused => return [false, false, false, true, false],
        Service::Active => {}
    }
    let counts = |it: &&Counted| {
        it.from <= now && it.consistent_at <= now && it.until.is_none_or(|until| now < until)
    };
    let newest = record
        .points
        .iter()
        .filter(counts)
        .map(|it| it.consistent_at);
    let exposure = now - newest.max().unwrap_or(record.registered_at);
    [
        true,
        exposure > promised.rpo,
        exposure > promised.allowed,
        false,
        fleet.down.iter().any(|it| it.from <= now && now < it.until),
    ]
}

proptest! {
    #[test]
    fn the_sums_are_those_of_a_walk_from_minute_to_minute(
        fleet in fleet(), points in points(), changes in changes(), from in -50..300_i64, lasts in 0..300_i64,
    ) {
        let record = Record { registered_at: at(-150), changes, points };
        let span = span(from, from + lasts);
        let [promised, late, broken, paused, down, _] = minutes(&fleet, &record, span);
        prop_assert_eq!([promised, late, broken, paused, down], walked(&fleet, &record, span));
        let breaches = super::broken(&fleet, &record, span);
        prop_assert_eq!(breaches.iter().map(|(from, until)| until - from).sum::<i64>(), broken);
        for (earlier, later) in breaches.iter().zip(breaches.iter().skip(1)) {
            prop_assert!(earlier.1 < later.0, "{:?} and {:?} are one breach", earlier, later);
        }
    }

    #[test]
    fn a_span_is_the_sum_of_its_parts(
        fleet in fleet(), points in points(), changes in changes(), cut in 1..END,
    ) {
        let record = Record { registered_at: at(-150), changes, points };
        let sums = |from, until| {
            let [promised, late, broken, paused, down, _] = minutes(&fleet, &record, span(from, until));
            [promised, late, broken, paused, down]
        };
        let (first, second) = (sums(0, cut), sums(cut, END));
        let both: Vec<_> = first.iter().zip(second).map(|(a, b)| a + b).collect();
        prop_assert_eq!(both, sums(0, END));
    }
}
