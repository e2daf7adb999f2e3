-- no-transaction
-- Orders by their reference. The others cost nothing: most services of this kind are given none.
CREATE INDEX CONCURRENTLY "orders_reference_id_idx" ON "orders"("reference", "id") WHERE "reference" IS NOT NULL;
