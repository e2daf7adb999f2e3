# Purchases on Python's standard library: http.server and sqlite3. A service that does not depend on verify; verify.yaml,
# beside it, describes it. `service.py dump` prints all stored data.
import json, os, signal, sqlite3, sys, threading, time, uuid
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DATABASE = os.environ['DATABASE']
BROKEN = os.environ.get('BROKEN')
stopping = threading.Event()


def connect():
    # Transactions begin and end by hand. A request that finds the database locked waits.
    db = sqlite3.connect(DATABASE, isolation_level=None, timeout=10)
    db.row_factory = sqlite3.Row
    # A commit is on disk when it returns.
    db.execute('pragma synchronous = full')
    return db


def prepare():
    db = connect()
    db.execute('pragma journal_mode = wal')
    db.execute('create table if not exists products (sku text primary key, price text not null, stock integer not null)')
    db.execute('''create table if not exists purchases (
        id text primary key, buyer text not null, request text not null, asked text not null, state text not null,
        lines text not null, amount text not null, unique (buyer, request))''')
    for product in json.loads(os.environ['CATALOGUE']):
        db.execute('insert or ignore into products values (?, ?, ?)', (product['sku'], str(product['price']), product['stock']))


def buy(db, purchase_id, buyer, body):
    """What to answer; an error is rolled back by the caller."""
    asked = json.dumps(body['lines'])
    known = db.execute('select * from purchases where buyer = ? and request = ?', (buyer, body['request'])).fetchone()
    if known is not None:
        # The first answer, whatever happened to the purchase since.
        return (200, shown(known, 'new')) if known['asked'] == asked else (409, {'error': 'request used before'})
    lines, amount = [], Decimal(0)
    for line in body['lines']:
        taken = db.execute('update products set stock = stock - ? where sku = ? and stock >= ?', (line['count'], line['product'], line['count']))
        if taken.rowcount == 0:
            return 409, {'error': 'sold out'}
        price = db.execute('select price from products where sku = ?', (line['product'],)).fetchone()['price']
        lines.append({'product': line['product'], 'count': line['count'], 'price': price})
        amount += Decimal(price) * line['count']
    db.execute('insert into purchases values (?, ?, ?, ?, ?, ?, ?)', (purchase_id, buyer, body['request'], asked, 'new', json.dumps(lines), str(amount)))
    return 201, shown(db.execute('select * from purchases where id = ?', (purchase_id,)).fetchone())


def settle(db, purchase_id, buyer):
    found = db.execute('select * from purchases where id = ? and buyer = ?', (purchase_id, buyer)).fetchone()
    if found is None:
        return 404, {'error': 'not found'}
    db.execute("update purchases set state = 'settled' where id = ?", (purchase_id,))
    return 200, shown(found, 'settled')


def shown(row, state=None):
    return {'purchase': {'id': row['id'], 'state': state or row['state'], 'lines': json.loads(row['lines']), 'amount': row['amount']}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    # An idle connection ends after this many seconds, so a stop waits no longer than that.
    timeout = 1

    def setup(self):
        super().setup()
        self.db = connect()

    def finish(self):
        self.db.close()
        super().finish()

    def do_GET(self):
        if self.path == '/health':
            return self.answer(503 if stopping.is_set() else 200, {})
        _, _, buyer, _, purchase_id = self.path.split('/')
        found = self.db.execute('select * from purchases where id = ? and buyer = ?', (purchase_id, buyer)).fetchone()
        self.answer(*(404, {'error': 'not found'}) if found is None else (200, shown(found)))

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get('content-length', 0)))
        parts = self.path.split('/')
        if len(parts) == 6:
            return self.answer_with(lambda: settle(self.db, parts[4], parts[2]))
        purchase_id = str(uuid.uuid4())
        self.answer_with(lambda: buy(self.db, purchase_id, parts[2], json.loads(body)))

    def answer_with(self, work):
        """Does it, commits, and then answers."""
        # The fault that verify must find: the client has its answer, and the purchase is stored a moment later, if ever.
        early = BROKEN == 'early'
        status, answer = self.transaction(work, 'rollback' if early else 'commit')
        self.answer(status, answer)
        if early:
            time.sleep(0.05)
            self.transaction(work, 'commit')

    def transaction(self, work, end):
        self.db.execute('begin immediate')
        status, answer = work()
        self.db.execute(end if status < 400 else 'rollback')
        return status, answer

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header('content-type', 'application/json')
        self.send_header('content-length', str(len(body)))
        if stopping.is_set():
            self.send_header('connection', 'close')
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    # A stop waits for the requests that have begun.
    daemon_threads = False


if sys.argv[1:] == ['dump']:
    db = connect()
    print(json.dumps({
        'purchases': [{**dict(row), 'lines': json.loads(row['lines'])} for row in db.execute('select * from purchases')],
        'stock': [dict(row) for row in db.execute('select sku, stock from products')]
    }))
else:
    prepare()
    server = Server(('127.0.0.1', int(os.environ['PORT'])), Handler)

    def stop(*_):
        if BROKEN == 'early':
            os._exit(0)
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stopping.wait()
    server.shutdown()
    server.server_close()
