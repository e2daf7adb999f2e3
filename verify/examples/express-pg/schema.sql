create table products (
  sku text primary key,
  unit_price bigint not null,
  stock bigint not null check (stock >= 0)
);

create table orders (
  id uuid primary key,
  customer text not null,
  key text not null,
  asked jsonb not null,
  status text not null default 'placed',
  version integer not null default 1,
  currency text not null,
  items jsonb not null default '[]',
  total bigint not null default 0,
  reference text,
  placed_at timestamptz not null default clock_timestamp(),
  -- One key of one customer makes one order: whoever comes second waits here for the first.
  unique (customer, key)
);
