-- Which share of its promised time each tier broke its promise, in the last hour, the last six hours, and the last 30 days.
with lately as (
    select tier, sum(broken_seconds) filter (where until > now() - interval '1 hour') as broken_1h,
        sum(promised_seconds) filter (where until > now() - interval '1 hour') as promised_1h,
        sum(broken_seconds) as broken_6h, sum(promised_seconds) as promised_6h
    from lastgood.promise_slices where until > now() - interval '6 hours' group by tier
),
long as (
    select tier, sum(broken_seconds)::float8 as broken, sum(promised_seconds)::float8 as promised
    from lastgood.promise_totals where day > (now() at time zone 'UTC')::date - 30 group by tier
)
select coalesce(lately.tier, long.tier) as "tier!", lately.broken_1h / nullif(lately.promised_1h, 0) as share_1h,
    lately.broken_6h / nullif(lately.promised_6h, 0) as share_6h, long.broken as broken_seconds, long.promised as promised_seconds
from lately full join long on long.tier = lately.tier
order by 1
