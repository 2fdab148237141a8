import time, pytest
Q1="""SELECT account, livemode, event_id, type, extract(epoch FROM created)::bigint AS created, body
FROM events
WHERE ids && $1::text[] AND type ~ '^(charge|refund|invoice)[.]' AND created < now() - interval '39 days'"""
Q2="""SELECT events.account, events.livemode, event_id, type, extract(epoch FROM created)::bigint AS created, body
FROM unnest($1::text[]) AS key (object_id)
CROSS JOIN LATERAL (SELECT * FROM events WHERE ids @> ARRAY[key.object_id] AND created < now() - interval '39 days' OFFSET 0) AS events WHERE type ~ '^(charge|refund|invoice)[.]' """
Q3="""SELECT events.account, events.livemode, event_id, type, extract(epoch FROM created)::bigint AS created, body
FROM unnest($1::text[]) AS key (object_id)
JOIN events ON ids @> ARRAY[key.object_id] AND created < now() - interval '39 days' WHERE type ~ '^(charge|refund|invoice)[.]' """
async def test_x(database):
    now=int(time.time())
    async with database.acquire() as db:
        await db.execute("SET statement_timeout=0")
        await db.execute("""INSERT INTO events (created, account, livemode, event_id, type, ids, body, received_at)
     SELECT to_timestamp($1 - 86400*45-(g % 5)*86400), 'self', false, 'evt_'||g, 'charge.succeeded', ARRAY['evt_'||g,'ch_'||g,'pi_'||g,'cus_'||(g%100)], decode(repeat('ab',1000),'hex'), now() FROM generate_series(1,300000) g""", now, timeout=200)
        await db.execute("ANALYZE events", timeout=100)
        for q in (Q1,Q2,Q3):
          for n in (1,50):
            for _ in range(7):
                t=time.time(); await db.fetch(q,[f"ch_{i}" for i in range(n)], timeout=100); dt=time.time()-t
            rows=await db.fetch("EXPLAIN "+q, [f"ch_{i}" for i in range(n)])
            print(n, round(dt*1000,2),"ms"); print("\n".join(r[0][:100] for r in rows if 'Filter' not in r[0] and 'Cond' not in r[0]))
