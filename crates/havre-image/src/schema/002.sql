-- Who gave the name, in the caller's words; NULL: nobody in particular, as all before.
ALTER TABLE images ADD COLUMN giver TEXT;
