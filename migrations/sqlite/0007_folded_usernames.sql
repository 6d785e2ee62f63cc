-- Keys of usernames are case-folded: `νικος` and `ΝΙΚΟΣ` are one account. This folds the keys of
-- existing accounts; the letters are all those that folding changes and that a key can contain.
--
-- An account keeps its key where another account has the folded one, and where a combining mark
-- would have to be composed with a new letter. The service finds an account by either key.
with recursive
    folds (position, letter, folded) as (values
        (1, 'ß', 'ss'), (2, 'ς', 'σ'), (3, 'ͅ', 'ι'), (4, 'ᾀ', 'ἀι'), (5, 'ᾁ', 'ἁι'),
        (6, 'ᾂ', 'ἂι'), (7, 'ᾃ', 'ἃι'), (8, 'ᾄ', 'ἄι'), (9, 'ᾅ', 'ἅι'), (10, 'ᾆ', 'ἆι'),
        (11, 'ᾇ', 'ἇι'), (12, 'ᾐ', 'ἠι'), (13, 'ᾑ', 'ἡι'), (14, 'ᾒ', 'ἢι'), (15, 'ᾓ', 'ἣι'),
        (16, 'ᾔ', 'ἤι'), (17, 'ᾕ', 'ἥι'), (18, 'ᾖ', 'ἦι'), (19, 'ᾗ', 'ἧι'), (20, 'ᾠ', 'ὠι'),
        (21, 'ᾡ', 'ὡι'), (22, 'ᾢ', 'ὢι'), (23, 'ᾣ', 'ὣι'), (24, 'ᾤ', 'ὤι'), (25, 'ᾥ', 'ὥι'),
        (26, 'ᾦ', 'ὦι'), (27, 'ᾧ', 'ὧι'), (28, 'ᾲ', 'ὰι'), (29, 'ᾳ', 'αι'), (30, 'ᾴ', 'άι'),
        (31, 'ᾷ', 'ᾶι'), (32, 'ῂ', 'ὴι'), (33, 'ῃ', 'ηι'), (34, 'ῄ', 'ήι'), (35, 'ῇ', 'ῆι'),
        (36, 'ῲ', 'ὼι'), (37, 'ῳ', 'ωι'), (38, 'ῴ', 'ώι'), (39, 'ῷ', 'ῶι')),
    affected as (
        select id, username_key as key from users
        where exists (select 1 from folds where instr(username_key, letter) > 0)
          and username_key not glob '*[' || char(768) || '-' || char(836) || ']*'),
    steps as (
        select id, 0 as position, key from affected
        union all
        select id, folds.position, replace(key, letter, folded)
        from steps join folds on folds.position = steps.position + 1),
    folded as (
        select steps.id, steps.key,
               row_number() over (partition by steps.key order by users.created_at, users.id) as rank
        from steps join users on users.id = steps.id
        where steps.position = 39)
update users
set username_key = (select key from folded where folded.id = users.id)
where id in (select folded.id from folded
             where rank = 1
               and not exists (select 1 from users other where other.username_key = folded.key));
