"""Which sentences the rules cut, and which they leave alone."""

import pytest

from app.text.rewrite import RulesRewriter, by_rules
from app.text.split import count_words


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        (
            "Un seul domestique suffisait à le servir ; il déjeunait et dînait au club.",
            [
                "Un seul domestique suffisait à le servir.",
                "Il déjeunait et dînait au club.",
            ],
        ),
        (
            "Il entendit la porte se fermer une première fois : c'était son nouveau maître.",
            [
                "Il entendit la porte se fermer une première fois.",
                "C'était son nouveau maître.",
            ],
        ),
        (
            "Il parlait aussi peu que possible, mais il semblait toujours très heureux.",
            [
                "Il parlait aussi peu que possible.",
                "Mais il semblait toujours très heureux.",
            ],
        ),
        (
            "Il resta chez lui toute la journée, car la pluie tombait sans arrêt.",
            [
                "Il resta chez lui toute la journée.",
                "En effet, la pluie tombait sans arrêt.",
            ],
        ),
        (
            "Le train partit à midi précis, tandis que les voyageurs dormaient encore.",
            [
                "Le train partit à midi précis.",
                "Pendant ce temps, les voyageurs dormaient encore.",
            ],
        ),
        (
            "Le cheval refusa d'avancer sur le pont, ce qui mit le cocher en colère.",
            [
                "Le cheval refusa d'avancer sur le pont.",
                "Cela mit le cocher en colère.",
            ],
        ),
        (
            "Il aperçut au bout de la rue une femme, qui portait un grand chapeau.",
            [
                "Il aperçut au bout de la rue une femme.",
                "Celle-ci portait un grand chapeau.",
            ],
        ),
        (
            "Il vivait seul dans sa maison de Londres, où personne ne pénétrait jamais.",
            [
                "Il vivait seul dans sa maison de Londres.",
                "Là, personne ne pénétrait jamais.",
            ],
        ),
        (
            "Le capitaine regarda longtemps la mer et il descendit dans sa cabine.",
            [
                "Le capitaine regarda longtemps la mer.",
                "Et il descendit dans sa cabine.",
            ],
        ),
        (
            "Viendra-t-il avec nous demain matin ; restera-t-il tout seul à la maison ?",
            [
                "Viendra-t-il avec nous demain matin ?",
                "Restera-t-il tout seul à la maison ?",
            ],
        ),
    ],
)
def test_cuts(sentence, expected):
    rewrite = by_rules(sentence, 10)
    assert rewrite.parts == expected
    assert rewrite.method == "rules"


@pytest.mark.parametrize(
    "sentence",
    [
        # Within the limit.
        "Il vint ; il vit.",
        # The relative clause stands in the middle of the main one.
        "Le vieux Passepartout, qui était très las, dormit ce soir-là dans la cuisine.",
        "Il vit que Passepartout, qui était très las, dormait déjà dans la petite cuisine.",
        # No subject of its own after the conjunction.
        "Phileas Fogg se leva, prit son chapeau de la main gauche, et disparut sans une parole.",
        # The first half would wait for its main clause.
        "Quand le soleil parut derrière les collines, et que le vent tomba enfin, tout se tut.",
        # The gender of the antecedent is unknown.
        "Il parla longtemps de Phileas Fogg et de ses amis anglais, qui voyageaient beaucoup.",
        # A list is no clause.
        "Il acheta trois choses très utiles au marché : du pain, du vin et un grand fromage.",
        # What others say is not cut away from them.
        "Le capitaine lui dit « je pars demain ; vous resterez ici » et ferma la grande porte.",
        "Il parla (la nuit tombait ; il faisait froid) de ses longs voyages dans les Indes.",
        # A question is one question.
        "Savez-vous qu'il est parti hier matin de Londres, et qu'il a tout emporté avec lui ?",
    ],
)
def test_leaves_alone(sentence):
    rewrite = by_rules(sentence, 10)
    assert rewrite.parts == [sentence]
    assert rewrite.method == "kept"


def test_cuts_again_until_short_enough():
    sentence = (
        "Il déjeunait au club ; il dînait au club ; il ne traitait point ses collègues, "
        "mais il rentrait à minuit précis."
    )
    rewrite = by_rules(sentence, 7)
    assert rewrite.parts == [
        "Il déjeunait au club.",
        "Il dînait au club.",
        "Il ne traitait point ses collègues.",
        "Mais il rentrait à minuit précis.",
    ]
    assert max(map(count_words, rewrite.parts)) <= 7


def test_one_answer_per_sentence():
    sentences = ["Il vint.", "Elle regarda la mer ; il regarda la terre."]
    rewrites = RulesRewriter().rewrite(sentences, 5)
    assert [len(rewrite.parts) for rewrite in rewrites] == [1, 2]
