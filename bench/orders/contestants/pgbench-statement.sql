-- The same order as one prepared statement: no transaction block, no answer to a repeated key but an error.
\set product random(0, :products - 1)
WITH sold AS (
  UPDATE products SET stock = stock - 1
   WHERE sku = 'product-' || lpad(:product::text, 4, '0') AND stock >= 1
  RETURNING sku, unit_price, currency
), placed AS (
  INSERT INTO orders (id, customer, idempotency_key, fingerprint, currency, total, created_at)
  SELECT uuidv7(), 'customer-' || :client_id, gen_random_uuid()::text, sha256(sold.sku::bytea), sold.currency, sold.unit_price, now() FROM sold
  RETURNING id
), line AS (
  INSERT INTO order_items (order_id, position, sku, quantity, unit_price)
  SELECT placed.id, 1, sold.sku, 1, sold.unit_price FROM placed, sold
)
INSERT INTO outbox (order_id, version, type) SELECT id, 1, 'placed' FROM placed;
