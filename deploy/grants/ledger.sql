-- Optional: keeps the services from editing the ledger of proofs even on purpose. Another role owns it, so that nobody whom
-- the services' role could become can disable its triggers. A superuser runs this in the catalog's database, after
-- `lastgood migrate`, with the names and the password of your own. lastgood_services is the role in DATABASE_URL.
create role lastgood_ledger nologin;
alter schema lastgood owner to lastgood_ledger;
grant usage, create on schema lastgood to lastgood_services;
alter table lastgood.proofs owner to lastgood_ledger;
alter table lastgood.proof_chain owner to lastgood_ledger;
revoke all on lastgood.proofs, lastgood.proof_chain from lastgood_services;
grant select, insert on lastgood.proofs to lastgood_services;
grant select, update on lastgood.proof_chain to lastgood_services;
-- An auditor reads the ledger and nothing else.
create role lastgood_auditor login password 'PASSWORD' connection limit 4;
grant usage on schema lastgood to lastgood_auditor;
grant select on lastgood.proofs, lastgood.proof_chain to lastgood_auditor;
