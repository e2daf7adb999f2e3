-- The same order as applications write it: a transaction of one statement after another.
\set product random(0, :products - 1)
BEGIN;
SELECT unit_price AS price, gen_random_uuid() AS key, uuidv7() AS id FROM products WHERE sku = 'product-' || lpad(:product::text, 4, '0') \gset
INSERT INTO orders (id, customer, idempotency_key, fingerprint, currency, total, created_at)
VALUES (:id::uuid, 'customer-' || :client_id, :key, sha256(:key::bytea), 'EUR', :price::bigint, now());
INSERT INTO order_items (order_id, position, sku, quantity, unit_price)
VALUES (:id::uuid, 1, 'product-' || lpad(:product::text, 4, '0'), 1, :price::bigint);
UPDATE products SET stock = stock - 1 WHERE sku = 'product-' || lpad(:product::text, 4, '0') AND stock >= 1;
INSERT INTO outbox (order_id, version, type) VALUES (:id::uuid, 1, 'placed');
COMMIT;
