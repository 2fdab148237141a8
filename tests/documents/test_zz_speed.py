import time
from tests.documents.test_documents_worker import *
from tests.notifications.test_notifications import changed, stands, data
from workers import notifications
async def test_speed(database):
    evs=[charge_event(f"evt_{i}", f"ch_{i}") for i in range(10000)]
    t=time.time()
    for s in range(0,10000,200): await run_handler(documents, evs[s:s+200], database)
    print("unrelated/s", 10000/(time.time()-t))
    evs=[]
    for i in range(3000):
        evs += [charge_event(f"evx_{i}", f"chx_{i}"), naming(f"Q-{i}", 1, f"chx_{i}"), charge_event(f"evy_{i}", f"chx_{i}", at=5, receipt_number="1")]
    t=time.time()
    for s in range(0,9000,200): await run_handler(documents, evs[s:s+200], database)
    print("named/s", 9000/(time.time()-t))
    evs=[changed(quote_id=f"Q-{i}", sequence=1) for i in range(5000)]
    t=time.time()
    for s in range(0,5000,200): await run_handler(notifications, evs[s:s+200], database)
    print("paid changes/s", 5000/(time.time()-t))
